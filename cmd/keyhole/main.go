// Keyhole is the command on a person's own machine: it finds devices that run
// keyholed, pairs with them, and opens local ports to their services.
//
// It is a thin layer over package client, which an app would use the same way.
// What a device says is shown as text only: see plain in output.go.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the whole program but for its process. It returns the exit code.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: in, out: out, err: errs}
	root := a.root()
	root.SetArgs(args)
	return a.report(root.ExecuteContext(ctx))
}
