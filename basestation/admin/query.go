package admin

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/keyholed/keyhole/protocol/api"
)

// queryOf returns the query of a request, and refuses what is not known: a
// misspelt filter would be no filter.
func queryOf(r *http.Request, known ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, api.Problemf(api.CodeMalformed, "the query cannot be read")
	}
	for name := range query {
		if !slices.Contains(known, name) {
			return nil, api.Problemf(api.CodeMalformed, "there is no parameter %q: want one of %q", name, known)
		}
	}
	return query, nil
}
