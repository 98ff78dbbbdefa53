package table

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

func snapshot(t testing.TB, tab *Table) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tab.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// trained is a table with n rows, whose first updates came in an order that shuffle makes.
func trained(t testing.TB, budget spec.Bytes, n int, shuffle *rand.Rand) *Table {
	const width = 6
	c := Config{Name: "t", Width: width, Seed: 1, Init: 0.1, Rule: rule(t, "adagrad"), Budget: budget}
	if budget > 0 {
		c.Spill = t.TempDir()
	}
	tab := open(t, c, 2)
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(i) * 977
	}
	shuffle.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	for rows := range slices.Chunk(all, 64) {
		slices.Sort(rows)
		g := make([]float32, len(rows)*width)
		for i := range g {
			g[i] = float32(rows[i/width]) + float32(i%width)
		}
		if err := tab.Apply(rows, g, 1, 0.1, 0.01); err != nil {
			t.Fatal(err)
		}
	}
	return tab
}

// Two tables with the same rows write the same bytes, however the rows came and wherever they are, and what is loaded is that.
func TestSnapshot(t *testing.T) {
	const n = 20_000
	a := trained(t, 0, n, rng.New(1, "order"))
	b := trained(t, 2*200<<10, n, rng.New(2, "order"))
	if a.Stats().Spilled != 0 || b.Stats().Spilled == 0 {
		t.Errorf("%+v and %+v", a.Stats(), b.Stats())
	}
	want := snapshot(t, a)
	if !bytes.Equal(snapshot(t, b), want) {
		t.Fatal("a table that is spilled, and whose rows came in another order, writes other bytes")
	}
	// Loading over old rows, from a stream with something behind it.
	c := trained(t, 2*200<<10, n/2, rng.New(3, "order"))
	rows, g := sequence(0, 1, 6)
	if err := c.Apply(rows, g, 2, 1, 1); err != nil {
		t.Fatal(err)
	}
	r := strings.NewReader(string(want) + "more")
	if err := c.Load(iotest.HalfReader(r)); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "more" {
		t.Errorf("%d bytes are left in the stream", len(rest))
	}
	if !bytes.Equal(snapshot(t, c), want) {
		t.Error("a table that was loaded writes other bytes")
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	tab := trained(t, 0, 0, nil)
	if err := tab.Load(bytes.NewReader(snapshot(t, tab))); err != nil || tab.Len() != 0 {
		t.Errorf("%d rows, %v", tab.Len(), err)
	}
}

func TestDamagedSnapshots(t *testing.T) {
	good := snapshot(t, trained(t, 0, 20, rng.New(1, "order")))
	load := func(p []byte) error { return trained(t, 0, 0, nil).Load(bytes.NewReader(p)) }
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		if err := load(bad); err == nil || !strings.HasPrefix(err.Error(), `table "t": Load: `) {
			t.Errorf("byte %d of %d changed: %v", i, len(good), err)
		}
		if err := load(good[:i]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of %d: %v", i, len(good), err)
		}
	}
	// A block left out has all checksums right.
	tab := trained(t, 0, 20, rng.New(1, "order"))
	var parts []int
	at := len(magic) + 4 + len(tab.String())
	for at < len(good)-16 {
		parts = append(parts, at)
		at += 8 + int(le.Uint32(good[at:]))*(8+4*tab.Stride())
	}
	if len(parts) != 2 || at != len(good)-16 {
		t.Fatalf("blocks at %v, the end at %d of %d", parts, at, len(good))
	}
	if err := load(slices.Delete(slices.Clone(good), parts[0], parts[1])); err == nil || !strings.Contains(err.Error(), "rows of 20") {
		t.Errorf("without its first block: %v", err)
	}
	other := open(t, Config{Name: "t", Width: 6, Seed: 2, Init: 0.1, Rule: rule(t, "adam")}, 2)
	want := `table "t": Load: the snapshot is of "table \"t\", width 6, seed 1, init 0.1, state adagrad.sum", and this is "table \"t\", width 6, seed 2, init 0.1, state adam.m adam.v"`
	if err := other.Load(bytes.NewReader(good)); err == nil || err.Error() != want {
		t.Errorf("into another table: %v", err)
	}
	broken := errors.New("broken pipe")
	for i := range 12 {
		if err := trained(t, 0, 20, rng.New(1, "order")).Snapshot(&failing{i, broken}); (i < 10) != errors.Is(err, broken) {
			t.Errorf("write %d fails: %v", i, err)
		}
	}
}

// failing fails after so many writes.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// Each stops at the first error of its function.
func TestEachStops(t *testing.T) {
	stop := errors.New("enough")
	calls := 0
	err := trained(t, 0, 20, rng.New(1, "order")).Each(func([]uint64, []float32) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// sealed is p with the checksums that its blocks should have, as far as there are any: damage that a checksum would find is
// seldom the damage that a fuzzer should look for.
func sealed(p []byte, tab *Table) []byte {
	p = slices.Clone(p)
	for at := len(magic) + 4 + len(tab.String()); at+4 <= len(p); {
		n := int(le.Uint32(p[at:]))
		end := at + 4 + max(8, n*(8+4*tab.Stride()))
		if n > tab.perCall() || end+4 > len(p) {
			break
		}
		le.PutUint32(p[end:], crc32.Checksum(p[at:end], castagnoli))
		at = end + 4
	}
	return p
}

func FuzzLoad(f *testing.F) {
	good := snapshot(f, trained(f, 0, 20, rng.New(1, "order")))
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, p []byte) {
		tab := trained(t, 0, 0, nil)
		if tab.Load(bytes.NewReader(sealed(p, tab))) != nil {
			return
		}
		// What is taken can be given, and taken again.
		once := snapshot(t, tab)
		again := trained(t, 0, 0, nil)
		if err := again.Load(bytes.NewReader(once)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshot(t, again), once) {
			t.Fatal("a snapshot of what a snapshot holds is another one")
		}
	})
}
