package main

import (
	"strings"
	"testing"
)

// The weights do not depend on the number of workers, with either way to train.
func TestLocal(t *testing.T) {
	for _, every := range []int{1, 5} {
		var weights [2]string
		for i, workers := range []int{1, 4} {
			text, err := run(t.Context(), workers, every, "auto")
			if err != nil {
				t.Fatal(err)
			}
			_, weights[i], _ = strings.Cut(text, "weights ")
		}
		if weights[0] != weights[1] || len(weights[0]) != 65 {
			t.Errorf("every %d steps, 1 and 4 workers: %q", every, weights)
		}
	}
}
