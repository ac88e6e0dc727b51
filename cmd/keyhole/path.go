package main

import (
	"fmt"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/session"
)

// pathWords says how a session came about and what carries it.
func pathWords(c *client.Conn) string {
	switch c.Via() {
	case session.ViaPunched:
		return fmt.Sprintf("%s, direct through the routers (punched)", c.Path())
	case session.ViaRelay:
		return fmt.Sprintf("%s through the basestation's relay", c.Path())
	}
	return fmt.Sprintf("%s, direct", c.Path())
}
