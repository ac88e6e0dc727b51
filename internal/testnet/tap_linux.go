package testnet

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// tap makes an Ethernet device inside whose frames go to and come from the file.
func (n *Namespace) tap(t testing.TB, name string) *os.File {
	t.Helper()
	var f *os.File
	err := n.Within(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		f = os.NewFile(uintptr(fd), "tap "+name)
		return nil
	})
	if err != nil {
		t.Fatal(fmt.Errorf("make device %s: %w", name, err))
	}
	return f
}
