package main

import (
	"strings"
	"testing"
)

func TestAlone(t *testing.T) {
	text, err := run(t.Context())
	if err != nil || !strings.HasPrefix(text, "75 steps, test accuracy 0.906\nweights b22713e12d680b7b") {
		t.Errorf("%v, %s", err, text)
	}
}
