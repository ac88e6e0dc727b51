package testface

import "testing"

func TestDigits(t *testing.T) {
	words := []string{"Support code 4:59", "204 862", "Call no. 123 456"}
	for behind, want := range map[string]string{"Support code": "204862", "Call no.": "123456", "Nothing": ""} {
		if got := Digits(words, behind); got != want {
			t.Errorf("%s: %q", behind, got)
		}
	}
}
