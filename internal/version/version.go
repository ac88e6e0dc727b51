// Package version says which Keyhole this is: what the packager linked in, else
// what the Go toolchain recorded about the checkout.
package version

import "runtime/debug"

// linked is set by the linker: -X …/internal/version.linked=1.2.3.
var linked string

// String returns the version, such as "v1.2.3", or "unknown".
func String() string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return s.Value[:12]
			}
		}
	}
	return "unknown"
}
