package config

import "testing"

func TestExampleParses(t *testing.T) {
	c, err := Parse(Example(), "/etc/keyhole/keyholed.toml", Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != 2 || c.Device.Name != "Front door" || c.Board.Profile != BoardSimulated {
		t.Errorf("got %+v", c)
	}
}
