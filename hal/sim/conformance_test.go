package sim_test

import (
	"testing"

	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/hal/haltest"
	"github.com/keyholed/keyhole/hal/sim"
)

func TestConformance(t *testing.T) {
	haltest.Buttons(t, func(_ *testing.T, down bool) (hal.Button, haltest.Line) {
		b := sim.NewButton("bell", down)
		return b, b
	})
	board := sim.New(sim.Options{})
	haltest.Light(t, board.HAL().Light)
	haltest.Display(t, board.HAL().Display)
	if err := board.Close(); err != nil {
		t.Error(err)
	}
}
