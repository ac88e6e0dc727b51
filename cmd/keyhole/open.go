package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
)

func (a *app) openCommand() *cobra.Command {
	var with string
	c := &cobra.Command{
		Use: "open [DEVICE] SERVICE", Short: "The same, then the browser or a player", Args: words(1, 2),
		Example: "  keyhole open rtsp --with vlc",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.open(cmd.Context(), cmd, args, with)
		},
	}
	c.Flags().StringVar(&with, "with", "", "`program` that is given the URL")
	return c
}

func (a *app) open(ctx context.Context, cmd *cobra.Command, args []string, with string) error {
	h, err := a.home()
	if err != nil {
		return err
	}
	target, names, err := a.device(h, args, 1)
	if err != nil {
		return err
	}
	w, err := a.openWays(ctx, cmd, h, target, names, "", elsewhere{})
	if err != nil {
		return err
	}
	f := w.forwards[0]
	if err := a.showForward(f); err != nil {
		return err
	}
	program := a.viewer(f, with)
	if program == nil {
		a.say("no program here to show it with: the URL works until interrupted (Ctrl-C)")
		return w.run(ctx)
	}
	return a.showWith(ctx, w, program, f.Service().Type == "http")
}

// showWith bridges while a program shows a service. What starts a browser returns
// at once; any other program's end is the end.
func (a *app) showWith(ctx context.Context, w *ways, program *exec.Cmd, browser bool) error {
	program.Stdout, program.Stderr = a.err, a.err
	if err := program.Start(); err != nil {
		w.close()
		w.line.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := program.Wait()
		if err != nil {
			err = fmt.Errorf("%s: %w", program.Args[0], err)
		}
		if ended <- err; err != nil || !browser {
			cancel()
		}
	}()
	err := w.run(ctx)
	select {
	case failed := <-ended:
		return errors.Join(err, failed)
	default: // a player that goes on sees that its stream has ended
		return err
	}
}

// players show RTSP, the ones that start quickest first.
var players = []string{"mpv", "ffplay", "vlc", "cvlc"}

// viewer is the program for a service, or nil.
func (a *app) viewer(f *client.Forward, with string) *exec.Cmd {
	url := f.URL()
	if with != "" {
		return exec.Command(with, url)
	}
	switch f.Service().Type {
	case "http":
		if name := browser(); name != "" {
			return exec.Command(name, url)
		}
	case "rtsp":
		if !hasScreen() {
			return nil
		}
		for _, name := range players {
			if path, err := exec.LookPath(name); err == nil {
				return exec.Command(path, url)
			}
		}
	}
	return nil
}

func browser() string {
	name := "xdg-open"
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		name = map[string]string{"darwin": "open", "windows": "explorer"}[runtime.GOOS]
	}
	path, err := exec.LookPath(name)
	if err != nil || !hasScreen() {
		return ""
	}
	return path
}

// hasScreen tells whether a window could be shown.
func hasScreen() bool {
	return runtime.GOOS == "darwin" || runtime.GOOS == "windows" || os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}
