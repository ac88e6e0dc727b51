//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/internal/testcam"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
)

const (
	tcpService = "_keyhole._tcp"
	udpService = "_keyhole._udp"
)

// The main job: find, press, compare, press, watch, with nothing but the commands
// that people type and the programs that they have.
//
//	              switch
//	    ┌───────────┼────────────┐
//	  board       laptop       phone
//	10.77.0.1    10.77.0.2    10.77.0.3
//	keyholed     keyhole      avahi
//	camera, sshd on
//	its loopback
func TestOneLAN(t *testing.T) {
	net := newLAN(t)
	b := newBoard(t, net.join(t, "board", "10.77.0.1/24"))
	alice := newPerson(t, net.join(t, "laptop", "10.77.0.2/24"), "Alice")
	phone := testnet.StartAvahi(t, net.join(t, "phone", "10.77.0.3/24").Namespace)
	id := b.status(t).ID

	step(t, "keyhole discover finds it", func(t *testing.T) {
		testnet.Eventually(t, "keyhole discover", func() error {
			var found struct {
				Devices []struct {
					ID, Name, Product string
					Addresses, Pair   []string
				}
			}
			alice.ask(t, &found, "discover", "--json", "--wait", "1500ms")
			if len(found.Devices) != 1 {
				return fmt.Errorf("found %v", found.Devices)
			}
			d := found.Devices[0]
			if d.ID != string(id) || d.Product != "acme-cam-2" || len(d.Pair) != 0 ||
				!strings.Contains(strings.Join(d.Addresses, " "), "10.77.0.1:7443") {
				return fmt.Errorf("found %+v", d)
			}
			return nil
		})
	})
	step(t, "avahi sees the pairing window", func(t *testing.T) {
		known := []string{`Front\032door-` + string(id)[:6], string(id) + ".local", "10.77.0.1", ";7443;", `"v=1"`, `"id=` + string(id) + `"`, `"product=acme-cam-2"`}
		phone.Sees(t, tcpService, known...)
		phone.Sees(t, udpService, known...)
		phone.SawLast(t, tcpService, "pair=")
		b.open(t)
		phone.Sees(t, tcpService, append(known, `"pair=button"`)...)
		phone.Sees(t, udpService, append(known, `"pair=button"`)...)
	})
	step(t, "both sides show the same digits", func(t *testing.T) {
		pairing, digits := alice.askToPair(t, b)
		if asking := b.asking(t); asking.Check != digits || asking.Name != "Alice's laptop" {
			t.Fatalf("keyhole shows %s, the board's status %+v", digits, asking)
		}
		b.shows(t, digits[:3]+" "+digits[3:])
		b.press(t)
		if code := pairing.wait(t); code != 0 {
			t.Fatalf("keyhole pair: exit code %d", code)
		}
		contains(t, "keyhole pair", pairing.out.String(), "Front door")
	})
	step(t, "avahi sees the window close", func(t *testing.T) {
		phone.SawLast(t, tcpService, "pair=")
		phone.SawLast(t, udpService, "pair=")
		phone.Sees(t, tcpService, `"v=1"`)
	})
	step(t, "devices and services", func(t *testing.T) {
		var devices struct {
			Devices []struct {
				client.Device
				Reachable bool
				Path      string
			}
		}
		alice.ask(t, &devices, "devices", "--json")
		if len(devices.Devices) != 1 || !devices.Devices[0].Reachable || devices.Devices[0].Role != "owner" || devices.Devices[0].Path != "tcp" {
			t.Errorf("keyhole devices: %+v", devices)
		}
		var services api.Services
		alice.ask(t, &services, "services", "Front door", "--json")
		if len(services.Services) != 4 {
			t.Errorf("keyhole services: %+v", services)
		}
	})

	bridge := alice.connect(t, "Front door", "rtsp", "web", "bulk")
	t.Run("players", func(t *testing.T) { watch(t, b.camera, alice.host, "rtsp://"+bridge.address["rtsp"]+testcam.Path) })
	t.Run("browser", func(t *testing.T) { surf(t, b.camera, alice.host, bridge.address["web"]) })
	t.Run("curl is a client", func(t *testing.T) { foreignClient(t, b, alice) })
	t.Run("ssh", func(t *testing.T) { shell(t, b, alice) })
	t.Run("bulk", func(t *testing.T) { carry(t, b, bridge) })
}

// watch plays the camera with players as people have them, without options: they
// ask for UDP, which cannot come through, and must fall back by themselves.
func watch(t *testing.T, camera *testcam.Camera, at host, url string) {
	out := must(t, at.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", url))
	if out != "mjpeg,640,360\n" {
		t.Errorf("ffprobe: %q", out)
	}
	dir := t.TempDir()
	must(t, at.Command("ffmpeg", "-v", "error", "-i", url, "-frames:v", "10", "-fps_mode", "passthrough", dir+"/%d.png"))
	checkPicture(t, camera, dir+"/10.png")
	// At its end it may close the connection before its own PAUSE is sent, and then
	// calls that an error: the pictures tell.
	gst := at.Command("gst-launch-1.0", "-q", "rtspsrc", "location="+url, "!", "rtpjpegdepay", "!", "jpegdec", "!",
		"videoconvert", "!", "identity", "eos-after=5", "!", "pngenc", "!", "multifilesink", "location="+dir+"/gst%d.png")
	if out, err := gst.CombinedOutput(); err != nil {
		t.Logf("gst-launch-1.0: %v\n%s", err, out)
	}
	checkPicture(t, camera, dir+"/gst3.png")
}

// checkPicture reads the mark that this camera alone paints.
func checkPicture(t *testing.T, camera *testcam.Camera, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if mark, err := testcam.ReadMark(picture); err != nil || mark.Name != camera.Name() {
		t.Errorf("%s is no picture of this camera: %v, %v", file, mark, err)
	}
}

// surf uses the web service's local port as a browser does, and as pages of others
// would like to.
func surf(t *testing.T, camera *testcam.Camera, at host, address string) {
	file := filepath.Join(t.TempDir(), "frame.jpg")
	must(t, at.Command("curl", "-sSf", "-o", file, "http://"+address+"/frame.jpg"))
	checkPicture(t, camera, file)

	_, port, _ := net.SplitHostPort(address)
	for _, c := range []struct{ header, status string }{
		{"Host: localhost:" + port, "200"},
		{"Host: web.localhost:" + port, "200"},
		{"Origin: http://" + address, "200"},
		{"Host: evil.example.net:" + port, "421"},
		{"Host: 10.77.0.1:" + port, "421"},
		{"Origin: http://evil.example.net", "403"},
		{"Origin: null", "403"},
		{"Sec-Fetch-Site: cross-site", "403"},
		{"Sec-Fetch-Site: same-site", "403"},
	} {
		got := must(t, at.Command("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", c.header, "http://"+address+"/frame.jpg"))
		if got != c.status {
			t.Errorf("%s: status %s, want %s", c.header, got, c.status)
		}
	}
}

// foreignClient is curl with the person's key: requests to the API, and a tunnel.
func foreignClient(t *testing.T, b *board, p *person) {
	key := filepath.Join(p.home, "identity.pem")
	var me api.Device
	out := must(t, p.Command("curl", "-sSk", "--cert", key, "https://10.77.0.1:7443/v1/device"))
	if err := json.Unmarshal([]byte(out), &me); err != nil || me.ID != b.status(t).ID {
		t.Errorf("/v1/device: %v in %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "frame.jpg")
	must(t, p.Command("curl", "-sSf", "-o", file, "--proxy", "https://10.77.0.1:7443", "--proxy-insecure", "--proxy-cert", key, "--proxytunnel", "http://web/frame.jpg"))
	checkPicture(t, b.camera, file)
	// Without a certificate nothing is answered, and no other target is reached.
	if r := finish(t, p.Command("curl", "-sSk", "https://10.77.0.1:7443/v1/hello")); r.code == 0 || r.out != "" {
		t.Errorf("curl without a certificate: %d %s", r.code, r.out)
	}
	r := finish(t, p.Command("curl", "-sS", "--proxy", "https://10.77.0.1:7443", "--proxy-insecure", "--proxy-cert", key, "--proxytunnel", "http://127.0.0.1:8099/frame.jpg"))
	if r.code == 0 || strings.Contains(r.err, "200") {
		t.Errorf("CONNECT to an address: %d %s", r.code, r.err)
	}
}

// shell reaches a real sshd on the board by a real ssh with keyhole as its way.
func shell(t *testing.T, b *board, p *person) {
	dir := t.TempDir()
	for _, name := range []string{"host", "user"} {
		must(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)))
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "known"), append([]byte("front-door "), public...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where sshd locks its helper in
		t.Fatal(err)
	}
	server := start(t, b.Command("/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", dir+"/host", "-o", "ListenAddress="+sshd,
		"-o", "AuthorizedKeysFile="+dir+"/user.pub", "-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PidFile=none", "-o", "PermitRootLogin=yes"))
	testnet.Eventually(t, "sshd", func() error {
		if !server.running() {
			t.Fatalf("sshd has ended: %s", server.err)
		}
		conn, err := b.dial("tcp", sshd)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	way := fmt.Sprintf("%s --home %s exec 'Front door' ssh", program("keyhole"), p.home)
	ssh := p.Command("ssh", "-F", "/dev/null", "-i", dir+"/user", "-o", "ProxyCommand="+way, "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile="+dir+"/known", "-o", "BatchMode=yes", me.Username+"@front-door", "ip -4 -o addr show dev eth0; cat")
	ssh.Stdin = strings.NewReader("through the keyhole")
	out := must(t, ssh)
	contains(t, "ssh", out, "10.77.0.1/24")
	contains(t, "ssh", out, "through the keyhole")
}

// bulkBytes go each way.
const bulkBytes = 200 << 20

// stream is what carry sends: the same bytes for the same seed.
func stream(seed byte) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), bulkBytes)
}

// carry sends 200 MB each way at once through a tcp service, ends its own
// direction first, and compares what arrived.
func carry(t *testing.T, b *board, way *bridge) {
	arrived := make(chan string, 1)
	b.serve(t, bulk, func(c *net.TCPConn) {
		var sending sync.WaitGroup
		sending.Go(func() {
			_, _ = io.Copy(c, stream(1))
			_ = c.CloseWrite()
		})
		h := sha256.New()
		_, err := io.Copy(h, c)
		sending.Wait() // c is closed when this returns
		arrived <- fmt.Sprintf("%x %v", h.Sum(nil), err)
	})
	conn, err := way.person.dial("tcp", way.address["bulk"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, stream(2))
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	h := sha256.New()
	n, err := io.Copy(h, conn)
	if err != nil || n != bulkBytes || !bytes.Equal(h.Sum(nil), sum(1)) {
		t.Errorf("device to client: %d bytes, %v, sha256 %x", n, err, h.Sum(nil))
	}
	if err := <-sent; err != nil {
		t.Errorf("client to device: %v", err)
	}
	if got, want := <-arrived, hex.EncodeToString(sum(2))+" <nil>"; got != want {
		t.Errorf("client to device: %s, want %s", got, want)
	}
}

func sum(seed byte) []byte {
	h := sha256.New()
	_, _ = io.Copy(h, stream(seed))
	return h.Sum(nil)
}
