package table

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// What only Linux has: a disk that is always full, and a line that says how much memory a process has.

// A disk that is full, or that has lost what was spilled, is an error; a disk with room again, and all goes on.
func TestBadDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	const n, width = 5000, 16
	tab := open(t, Config{Name: "t", Width: width, Rule: rule(t, "sgd"), Budget: 2 * 64 << 10, Spill: t.TempDir()}, 2)
	good := tab.spill.file
	tab.spill.file = full
	err = sweep(tab, n, 1)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), `table "t": Apply: spilling: write `) {
		t.Fatalf("a full disk: %v", err)
	}
	there := tab.Len()
	tab.spill.file = good
	seen := 0
	if err := tab.Each(func(rows []uint64, values []float32) error {
		for i, x := range values {
			// The last row may have been made and not yet updated.
			if x != 0 && x != -0.1 {
				t.Fatalf("row %d has %v", rows[i/width], x)
			}
		}
		seen += len(rows)
		return nil
	}); err != nil || seen != there {
		t.Fatalf("%d rows of %d after a full disk: %v", seen, there, err)
	}
	if err := sweep(tab, n, 2); err != nil {
		t.Fatal(err)
	}
	rows, out := sequence(0, n, width)
	for range 2 { // now the file has all pages, and nothing is written any more
		if err := tab.Get(rows, out); err != nil {
			t.Fatal(err)
		}
	}
	if err := good.Truncate(0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := tab.Get(rows, out); err == nil || !strings.Contains(err.Error(), "reading what was spilled: EOF") {
			t.Fatalf("a file that was cut: %v", err)
		}
	}
}

// Passes over a table much larger than its budget, that write and that read, leave the process within it.
func TestMemoryStaysInBudget(t *testing.T) {
	const n, width = 100_000, 16
	const budget = 4 << 20
	before := resident(t)
	tab := open(t, Config{Name: "t", Width: width, Rule: rule(t, "adam"), Budget: budget, Spill: t.TempDir()}, stripes)
	for step := 1; step <= 3; step++ {
		if err := sweep(tab, n, step); err != nil {
			t.Fatal(err)
		}
	}
	rows, out := sequence(0, n, width)
	for range 2 {
		if err := tab.Get(rows, out); err != nil {
			t.Fatal(err)
		}
	}
	// The test's own vectors are in it, and the runtime's heap.
	if grown := resident(t) - before; grown > budget+64<<20 {
		t.Errorf("the process has grown by %d bytes", grown)
	}
}

// resident is how much memory this process has, in bytes.
func resident(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(status), "VmRSS:")
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d", &kib); !ok || err != nil {
		t.Fatalf("no VmRSS in %s: %v", status, err)
	}
	return kib << 10
}
