package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

// maxExposure is ten times the figure that `systemd-analyze security` may give:
// 1.3. Services of this kind without a sandbox have 9.6.
const maxExposure = "13"

func unitText(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// analyze finds systemd-analyze. Root is expected to have installed it.
func analyze(t *testing.T) string {
	t.Helper()
	return testnet.Program(t, "systemd-analyze")
}

// services are the units that run something.
var services = []string{"keyholed.service", "keyhole-basestation.service"}

func TestSandboxStaysTight(t *testing.T) {
	tool, root := analyze(t), t.TempDir()
	units := filepath.Join(root, "lib/systemd/system")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		if err := os.WriteFile(filepath.Join(units, name), []byte(unitText(t, name)), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "security", "--offline=true", "--root="+root, "--threshold="+maxExposure, "--no-pager", name).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Overall exposure level for "+name) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// systemd's own reader finds nothing to complain about.
func TestUnitsAreUnderstood(t *testing.T) {
	tool, dir := analyze(t), t.TempDir()
	for _, name := range services {
		// The programs need not be installed here.
		text := regexp.MustCompile(`(?m)^ExecStart=.*$`).ReplaceAllString(unitText(t, name), "ExecStart=/bin/true")
		text = regexp.MustCompile(`(?m)^(No)?ExecPaths=.*$`).ReplaceAllString(text, "")
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "verify", "--man=no", "--generators=no", "--recursive-errors=no", path).CombinedOutput()
		if err != nil || strings.Contains(string(out), name+":") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// setting returns the values of all lines KEY=VALUE of a unit.
func setting(text, key string) []string {
	var values []string
	for _, m := range regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(text, -1) {
		values = append(values, m[1])
	}
	return values
}

// A daemon that hangs right after it spoke to the watchdog is missed after
// WatchdogSec, killed after TimeoutAbortSec at the latest, and started again
// after RestartSec: together within 40 s, with time to start.
func TestBackWithinFortySeconds(t *testing.T) {
	want := map[string]string{
		"WatchdogSec": "30", "TimeoutAbortSec": "5", "RestartSec": "1", "Restart": "always",
		"StartLimitIntervalSec": "0", "Type": "notify",
	}
	for _, name := range services {
		for key, value := range want {
			if got := setting(unitText(t, name), key); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %s = %q, want %q", name, key, got, value)
			}
		}
	}
}

func TestUnitsFitTheDaemon(t *testing.T) {
	service, socket := unitText(t, "keyholed.service"), unitText(t, "keyholed.socket")
	allowed := strings.Join(setting(service, "SocketBindAllow"), " ")
	if allowed != "tcp:7443 udp:7443 udp:5353" {
		t.Errorf("SocketBindAllow: %s", allowed)
	}
	if got := setting(socket, "ListenStream")[0] + setting(socket, "ListenDatagram")[0]; got != "74437443" {
		t.Errorf("the socket unit listens on %s", got)
	}
	if families := setting(service, "RestrictAddressFamilies")[0]; !strings.Contains(families, "AF_NETLINK") {
		t.Errorf("without netlink no network change is seen: %s", families)
	}
	for _, key := range []string{"StateDirectory", "RuntimeDirectory", "ConfigurationDirectory", "User", "Group"} {
		if got := setting(service, key); len(got) != 1 || got[0] != "keyhole" {
			t.Errorf("%s = %q, want keyhole", key, got)
		}
	}
	if user := "\nu keyhole "; !strings.Contains(unitText(t, "keyhole.sysusers"), user) {
		t.Error("no line makes the user keyhole")
	}
}

func TestUnitFitsTheBasestation(t *testing.T) {
	service := unitText(t, "keyhole-basestation.service")
	if allowed := strings.Join(setting(service, "SocketBindAllow"), " "); allowed != "tcp:7443 udp:7443 tcp:7480" {
		t.Errorf("SocketBindAllow: %s", allowed)
	}
	for _, key := range []string{"StateDirectory", "User", "Group"} {
		if got := setting(service, key); len(got) != 1 || got[0] != "keyhole-basestation" {
			t.Errorf("%s = %q, want keyhole-basestation", key, got)
		}
	}
	if user := "\nu keyhole-basestation "; !strings.Contains(unitText(t, "keyhole-basestation.sysusers"), user) {
		t.Error("no line makes the user keyhole-basestation")
	}
}

// Every hardening line is explained by a comment above its group.
func TestEveryLineIsExplained(t *testing.T) {
	for _, name := range services {
		everyLineIsExplained(t, name)
	}
}

func everyLineIsExplained(t *testing.T, name string) {
	t.Helper()
	explained := false
	for i, line := range strings.Split(unitText(t, name), "\n") {
		switch {
		case strings.HasPrefix(line, "# --- "):
			explained = false
		case strings.HasPrefix(line, "#"):
			explained = true
		case line == "" || strings.HasPrefix(line, "["):
			explained = strings.HasPrefix(line, "[") && line != "[Service]"
		}
		if strings.Contains(line, "=") && !strings.HasPrefix(line, "#") && !explained && i > sandboxBegins(t, name) {
			t.Errorf("%s: line %d stands without a word: %s", name, i+1, line)
		}
	}
}

func sandboxBegins(t *testing.T, name string) int {
	t.Helper()
	for i, line := range strings.Split(unitText(t, name), "\n") {
		if strings.HasPrefix(line, "# --- ") {
			return i
		}
	}
	t.Fatal("no section of the sandbox found")
	return 0
}
