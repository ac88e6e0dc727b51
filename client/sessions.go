package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/keyholed/keyhole/protocol/api"
)

// EndSession ends a session of the device by its number, with what is open in it:
// one's own, or anybody's where one may see all.
func (c *Conn) EndSession(ctx context.Context, number uint64) (api.SessionEnded, error) {
	var out api.SessionEnded
	return out, c.Call(ctx, http.MethodDelete, fmt.Sprintf("/v1/sessions/%d", number), nil, &out)
}
