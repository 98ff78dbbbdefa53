//go:build integration

package integration

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/internal/python"
)

// The scripts that compare Covey with other systems run and find all results right. What they measure in so short a
// time says nothing, and is not looked at.
func TestPeers(t *testing.T) {
	interpreter := python.With(t, "numpy, safetensors.numpy")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, interpreter, "../bench/peers/run.py", "--quick", "products", "allreduce-shm").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"| 128x784x128 | tn ", "/ oneDNN", "2 processes, 4 MiB", "4 processes, 1 KiB", "MPICH"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}
