package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/keyholed/keyhole/protocol/api"
)

// ErrNotExport means that the device's answer is no export of its audit log.
var ErrNotExport = errors.New("the device's answer is no audit log in JSON lines: its keyholed may be older than this program")

// ErrExportTooLong means that the device sent more than any log has.
var ErrExportTooLong = fmt.Errorf("the device's audit log is longer than %d bytes, which no log is", api.MaxAuditBytes)

// ExportAudit writes the audit log behind number after to w as JSON lines, each as
// the device signed it, with a signed end. What it has written is not checked:
// `keyholed audit --verify` does that, and whoever has the device's id.
func (c *Conn) ExportAudit(ctx context.Context, after uint64, w io.Writer) error {
	response, err := c.Do(ctx, http.MethodGet, "/v1/audit?format=jsonl&after="+strconv.FormatUint(after, 10), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close() // only read
	if err := Success(response); err != nil {
		return err
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != api.MediaJSONLines {
		return ErrNotExport
	}
	n, err := io.Copy(w, io.LimitReader(response.Body, api.MaxAuditBytes+1))
	if err != nil {
		return fmt.Errorf("the audit log did not come to its end: %w", err)
	}
	if n > api.MaxAuditBytes {
		return ErrExportTooLong
	}
	return nil
}
