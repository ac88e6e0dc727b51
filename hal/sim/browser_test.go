package sim_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/testnet"
)

// browser is a headless Chromium driven over a pair of pipes: JSON messages of
// its DevTools protocol, each ended by a zero byte. There is no port that
// anybody else could reach.
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string
	calls   int
}

func startBrowser(t *testing.T, flags ...string) *browser {
	t.Helper()
	path := testnet.Program(t, "chromium")
	fromUs, toThem, err1 := os.Pipe()
	toUs, fromThem, err2 := os.Pipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	c := exec.Command(path, append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--hide-scrollbars", "--window-size=900,800", "--user-data-dir=" + t.TempDir(), "--remote-debugging-pipe",
	}, flags...)...)
	c.ExtraFiles = []*os.File{fromUs, fromThem} // its descriptors 3 and 4
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = fromUs.Close()
	_ = fromThem.Close()
	b := &browser{t: t, in: toThem, out: bufio.NewReader(toUs)}
	t.Cleanup(func() {
		b.session = ""
		b.call("Browser.close", nil)
		_ = c.Wait()
		_ = toThem.Close()
		_ = toUs.Close()
	})
	return b
}

func (b *browser) call(method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	result, refusal := b.try(method, params)
	if refusal != "" {
		b.t.Fatalf("%s: %s", method, refusal)
	}
	return result
}

// try sends a command and returns its result or why it was refused; what comes
// before the answer is passed over.
func (b *browser) try(method string, params map[string]any) (result json.RawMessage, refusal string) {
	b.t.Helper()
	b.calls++
	message, err := json.Marshal(struct {
		ID      int            `json:"id"`
		Method  string         `json:"method"`
		Params  map[string]any `json:"params,omitempty"`
		Session string         `json:"sessionId,omitempty"`
	}{b.calls, method, params, b.session})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(message, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		text, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		if err := json.Unmarshal(text[:len(text)-1], &answer); err != nil {
			b.t.Fatalf("%s: %v in %q", method, err, text)
		}
		if answer.ID != b.calls {
			continue
		}
		return answer.Result, string(answer.Error)
	}
}

func field[T any](b *browser, from json.RawMessage, name string) T {
	b.t.Helper()
	var all map[string]json.RawMessage
	var value T
	if err := json.Unmarshal(from, &all); err != nil || json.Unmarshal(all[name], &value) != nil {
		b.t.Fatalf("no %s in %s", name, from)
	}
	return value
}

func (b *browser) open(url string) {
	b.t.Helper()
	target := field[string](b, b.call("Target.createTarget", map[string]any{"url": url}), "targetId")
	b.session = field[string](b, b.call("Target.attachToTarget", map[string]any{"targetId": target, "flatten": true}), "sessionId")
}

// until waits for a JavaScript expression to be true, looking at every frame,
// and returns it as text.
func (b *browser) until(expression string) string {
	b.t.Helper()
	evaluate := map[string]any{
		"awaitPromise": true,
		"expression": fmt.Sprintf(`new Promise((done) => { const look = () => {
			let v; try { v = %s } catch { v = false } v ? done(String(v)) : requestAnimationFrame(look) }; look() })`, expression),
	}
	result, refusal := b.try("Runtime.evaluate", evaluate)
	for strings.Contains(refusal, "context") { // the page is on its way from the blank one
		result, refusal = b.try("Runtime.evaluate", evaluate)
	}
	if refusal != "" {
		b.t.Fatalf("%s: %s", expression, refusal)
	}
	return field[string](b, field[json.RawMessage](b, result, "result"), "value")
}

func (b *browser) mouse(kind string, x, y float64) {
	b.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1})
}

func (b *browser) key(kind string) {
	b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": " ", "code": "Space", "windowsVirtualKeyCode": 32})
}

// A real browser shows the panel and holds its buttons, by mouse and by key.
// With KEYHOLE_SHOT=FILE it leaves a picture of the page.
func TestBrowserHoldsAButton(t *testing.T) {
	f := serveFace(t)
	b := startBrowser(t)
	b.open("http://" + f.address + "/#token=" + token)
	b.until(`document.querySelector('[data-button=reset]')`)
	if got := b.until(`document.title`); !strings.HasPrefix(got, "Front door") {
		t.Errorf("title = %q", got)
	}
	if got := b.until(`location.href`); strings.Contains(got, token) {
		t.Errorf("the token stays in the address bar: %s", got)
	}
	if err := f.HAL().Display.Show(hal.Page(hal.Line{Text: "Alice's laptop"}, hal.Line{Text: "472 913", Scale: 2}, hal.Line{Text: "press to accept"})); err != nil {
		t.Fatal(err)
	}
	if err := f.HAL().Light.Set(hal.On); err != nil {
		t.Fatal(err)
	}
	b.until(`document.getElementById('words').textContent.includes('472 913')`)
	b.until(`document.getElementById('light').hasAttribute('data-lit')`)

	var at []float64
	if err := json.Unmarshal([]byte(b.until(`JSON.stringify((r => [r.x + r.width / 2, r.y + 40])(document.querySelector('[data-button=reset]').getBoundingClientRect()))`)), &at); err != nil {
		t.Fatal(err)
	}
	b.mouse("mousePressed", at[0], at[1])
	f.untilDown(t, "reset")
	b.until(`document.querySelector('[data-button=reset][data-long]')`) // held, and the ring runs
	if file := os.Getenv("KEYHOLE_SHOT"); file != "" {
		b.shot(file)
	}
	if got := f.State().Down; !slices.Equal(got, []string{"reset"}) {
		t.Errorf("down = %v while the mouse is", got)
	}
	b.mouse("mouseReleased", at[0], at[1])
	f.untilDown(t)

	b.until(`(document.querySelector('[data-button=pair]').focus(), true)`)
	b.key("keyDown")
	f.untilDown(t, "pair")
	b.key("keyUp")
	f.untilDown(t)
	b.until(`!document.querySelector('[data-down]')`)

	// A page that goes away lets go.
	b.key("keyDown")
	f.untilDown(t, "pair")
	b.call("Page.navigate", map[string]any{"url": "about:blank"})
	f.untilDown(t)
}

func TestBrowserWithoutTheToken(t *testing.T) {
	f := serveFace(t)
	b := startBrowser(t)
	b.open("http://" + f.address + "/")
	b.until(`document.getElementById('link').textContent.includes('token')`)
	if got := b.until(`String(document.querySelectorAll('button').length)`); got != "0" {
		t.Errorf("%s buttons shown to a page without the token", got)
	}
}

func (b *browser) shot(file string) {
	data := field[string](b, b.call("Page.captureScreenshot", nil), "data")
	if _, err := png.DecodeConfig(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data))); err != nil {
		b.t.Fatal(err)
	}
	raw, _ := base64.StdEncoding.DecodeString(data)
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
