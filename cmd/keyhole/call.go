package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/api"
)

func (a *app) callCommand() *cobra.Command {
	return a.atFlag(a.jsonFlag(&cobra.Command{
		Use: "call [DEVICE] METHOD PATH [BODY]", Short: "A request to the device's API: JSON in, JSON out", Args: words(2, 4),
		Long: `BODY is JSON, or - for standard input. The answer goes to standard output; a refusal is told
in words, with --json as the problem document itself.`,
		Example: `  keyhole call GET /v1/openapi.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), cmd, args)
		},
	}))
}

// methods that make sense: CONNECT is `keyhole exec`.
var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true}

// callWords finds METHOD among the words: DEVICE is in front of it, or not there.
func callWords(cmd *cobra.Command, args []string) (device []string, method, path, body string, err error) {
	for i := range min(2, len(args)) {
		// A device may be called like a method, but its PATH begins with a slash.
		if i+1 < len(args) && methods[strings.ToUpper(args[i])] && strings.HasPrefix(args[i+1], "/") && len(args) <= i+3 {
			if i+2 < len(args) {
				body = args[i+2]
			}
			return args[:i], strings.ToUpper(args[i]), args[i+1], body, nil
		}
	}
	return nil, "", "", "", usagef(cmd, "want METHOD (GET, POST, PUT, PATCH, DELETE) and a PATH that begins with a slash")
}

func (a *app) call(ctx context.Context, cmd *cobra.Command, args []string) error {
	device, method, path, text, err := callWords(cmd, args)
	if err != nil {
		return err
	}
	body, err := a.callBody(cmd, text)
	if err != nil {
		return err
	}
	conn, _, err := a.reach(ctx, device, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	response, err := conn.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := client.Success(response); err != nil {
		var p *api.Problem
		if a.json && errors.As(err, &p) {
			if err := a.document(p); err != nil {
				return err
			}
		}
		return err
	}
	_, err = io.Copy(a.out, response.Body)
	return err
}

// maxBody is what is read from standard input before the device is asked; it
// takes far less.
const maxBody = 16 << 20

func (a *app) callBody(cmd *cobra.Command, text string) (io.Reader, error) {
	if text == "" {
		return nil, nil
	}
	data := []byte(text)
	if text == "-" {
		var err error
		if data, err = io.ReadAll(io.LimitReader(a.in, maxBody+1)); err != nil {
			return nil, err
		}
		if len(data) > maxBody {
			return nil, usagef(cmd, "the body is larger than %d bytes", maxBody)
		}
	}
	if !json.Valid(data) {
		return nil, usagef(cmd, "the body is not JSON")
	}
	return bytes.NewReader(data), nil
}

var _ http.RoundTripper = (*client.Conn)(nil)
