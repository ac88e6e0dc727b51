package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/protocol/session"
)

func (a *app) execCommand() *cobra.Command {
	return a.atFlag(&cobra.Command{
		Use: "exec [DEVICE] SERVICE", Short: "One connection on standard input and output", Args: words(1, 2),
		Example: `  ssh -o ProxyCommand="keyhole exec ssh" root@camera`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.exec(cmd.Context(), cmd, args)
		},
	})
}

func (a *app) exec(ctx context.Context, cmd *cobra.Command, args []string) error {
	if service := args[len(args)-1]; !plainService(service) {
		return usagef(cmd, "%q is no service: names are lower-case letters, digits and hyphens", service)
	}
	conn, rest, err := a.reach(ctx, args, 1)
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := conn.Connect(ctx, rest[0], "")
	if err != nil {
		return err
	}
	return a.join(ctx, stream)
}

// join copies both ways until the service has ended. Its end ends the program,
// whether or not there would be more to read on standard input.
func (a *app) join(ctx context.Context, stream session.Stream) error {
	defer stream.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(stream, a.in)
		if err == nil {
			err = stream.CloseWrite()
		}
		sent <- err
	}()
	received := make(chan error, 1)
	go func() {
		_, err := io.Copy(a.out, stream)
		received <- err
	}()
	select {
	case err := <-received:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
