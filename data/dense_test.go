package data

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// kinds returns one data set of each kind, of n samples.
func kinds(t testing.TB, n int) map[string]Dataset {
	var csv, texts, svm, reg strings.Builder
	csv.WriteString("a,b,c,y\n")
	texts.WriteString("a,b,c,y\n")
	r := rng.New(1, "test/kinds")
	for i := range n {
		fmt.Fprintf(&csv, "%d,%d,%d,%d\n", r.IntN(100), r.IntN(9), i, i%3)
		fmt.Fprintf(&texts, "%d,t%d,%d,c%d\n", r.IntN(100), r.IntN(9), i, i%3)
		fmt.Fprintf(&svm, "%d", i%2)
		for c := 1; c < 50; c += 1 + r.IntN(9) {
			fmt.Fprintf(&svm, " %d:%d", c, 1+r.IntN(5))
		}
		svm.WriteByte('\n')
		fmt.Fprintf(&reg, "%d,%d.5,%d.25\n", i, i, i)
	}
	digits, _, err := Open(ctx, fmt.Sprintf("digits:train=%d,test=0", n), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Dataset{
		"images":        digits,
		"numbers":       mustRead(t, csv.String(), Options{}),
		"texts":         mustRead(t, texts.String(), Options{}),
		"texts, sparse": mustRead(t, texts.String(), Options{Sparse: true}),
		"libsvm":        mustRead(t, svm.String(), Options{}),
		"targets":       mustRead(t, reg.String(), Options{Target: []string{"2", "3"}}),
		"subset":        Subset(digits, all(n)),
	}
}

func TestGatherAllocatesNothing(t *testing.T) {
	const n, batch = 300, 64
	for name, ds := range kinds(t, n) {
		var b Batch
		s, err := NewSampler(n, batch, 1)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // longest rows are met
			for e := range 20 {
				for k := range s.Steps() {
					ds.Gather(&b, s.Batch(e, k))
				}
			}
		}
		ids := s.Batch(19, 0)
		if got := testing.AllocsPerRun(100, func() { ds.Gather(&b, ids) }); got != 0 {
			t.Errorf("%s: Gather allocates %v times", name, got)
		}
	}
}

func TestGatherHandsOutWhatWasAskedFor(t *testing.T) {
	const n = 60
	for name, ds := range kinds(t, n) {
		whole := gather(ds)
		ids := []int{59, 0, 7, 7, 31}
		var b Batch
		ds.Gather(&b, all(n)[:40]) // leaves longer slices behind
		ds.Gather(&b, ids)
		if b.N != len(ids) || b.Dim != ds.Info().Dim || !slices.Equal(b.ID, ids) {
			t.Errorf("%s: %d samples of %d features, numbers %v", name, b.N, b.Dim, b.ID)
		}
		for k, i := range ids {
			if ds.Info().Sparse {
				if !slices.Equal(b.Col[b.Row[k]:b.Row[k+1]], whole.Col[whole.Row[i]:whole.Row[i+1]]) ||
					!slices.Equal(b.Val[b.Row[k]:b.Row[k+1]], whole.Val[whole.Row[i]:whole.Row[i+1]]) {
					t.Errorf("%s: sample %d differs", name, i)
				}
			} else if !slices.Equal(b.X[k*b.Dim:(k+1)*b.Dim], whole.X[i*b.Dim:(i+1)*b.Dim]) {
				t.Errorf("%s: sample %d differs", name, i)
			}
			if len(b.Class) > 0 && (b.Class[k] != whole.Class[i] || ds.Label(i) != int(b.Class[k])) {
				t.Errorf("%s: sample %d has class %d, expected %d", name, i, b.Class[k], whole.Class[i])
			}
			if w := ds.Info().Targets; w > 0 && !slices.Equal(b.Y[k*w:(k+1)*w], whole.Y[i*w:(i+1)*w]) {
				t.Errorf("%s: targets of sample %d differ", name, i)
			}
		}
		ds.Gather(&b, nil)
		if b.N != 0 || len(b.X) != 0 || len(b.Class) != 0 || len(b.Y) != 0 || ds.Info().Sparse && !slices.Equal(b.Row, []int{0}) {
			t.Errorf("%s: no samples give %+v", name, b)
		}
	}
}

func TestGatherIsSafeForConcurrentUse(t *testing.T) {
	for name, ds := range kinds(t, 100) {
		want := ds.Info().SHA256
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				var b Batch
				for i := range 50 {
					ds.Gather(&b, []int{w, i, 99 - i})
				}
				if got := ds.Info().SHA256; got != want {
					t.Errorf("%s: hash %s, then %s", name, want, got)
				}
			})
		}
		wg.Wait()
	}
}

func TestHashTellsDataApart(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{"1,2,0\n3,4,1\n", "1,2,1\n3,4,0\n", "1,2,0\n3,5,1\n", "3,4,1\n1,2,0\n", "1,2,0\n3,4,1\n1,2,0\n", "1,2.5\n3,4.5\n", "1,3.5\n3,4.5\n"} {
		h := mustRead(t, text, Options{}).Info().SHA256
		if len(h) != 64 {
			t.Errorf("%q has hash %q", text, h)
		}
		if other, twice := seen[h]; twice {
			t.Errorf("%q and %q have one hash", text, other)
		}
		seen[h] = text
		if again := mustRead(t, text, Options{}).Info().SHA256; again != h {
			t.Errorf("%q has hashes %s and %s", text, h, again)
		}
	}
	ds := mustRead(t, "1,2,0\n3,4,1\n5,6,0\n", Options{})
	if a, b := Subset(ds, []int{0, 1}).Info().SHA256, mustRead(t, "1,2,0\n3,4,1\n", Options{}).Info().SHA256; a != b {
		t.Errorf("the first two samples hash to %s as a part and to %s by themselves", a, b)
	}
	if a, b := Subset(ds, []int{0, 1}).Info().SHA256, Subset(ds, []int{1, 0}).Info().SHA256; a == b {
		t.Error("the order of samples does not change the hash")
	}
	img, _, err := Open(ctx, "digits:train=20,test=0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := Subset(img, []int{1, 2}).Info().SHA256, Subset(img, []int{1, 3}).Info().SHA256; a == b {
		t.Error("different images have one hash")
	}
}

func TestDataFromSlices(t *testing.T) {
	ds := Dense("mine", 2, []float32{1, 2, 3, 4, 5, 6}, []int32{0, 1, 1}, 2)
	if got := rows(ds); got != "[1 2] 0; [3 4] 1; [5 6] 1" || ds.Info().Classes != 2 || ds.Info().Name != "mine" {
		t.Errorf("Dense: %s, %+v", got, ds.Info())
	}
	ds = DenseTargets("mine", 1, []float32{1, 2}, []float32{5, 6, 7, 8}, 2)
	if b := gather(ds); !slices.Equal(b.Y, []float32{5, 6, 7, 8}) || ds.Info().Targets != 2 || ds.Label(0) != -1 {
		t.Errorf("DenseTargets: %+v, %+v", b, ds.Info())
	}
	ds, err := CSR("mine", 4, []int{0, 2, 2}, []int32{0, 3}, []float32{1, 2}, []int32{1, 0}, 2, nil)
	if err != nil || ds.Len() != 2 || !ds.Info().Sparse || ds.Label(0) != 1 {
		t.Errorf("CSR: %v, %v", ds, err)
	}
	for name, err := range map[string]error{
		"offsets":    second(CSR("mine", 4, []int{0, 3, 2}, []int32{0, 3}, []float32{1, 2}, []int32{1, 0}, 2, nil)),
		"descending": second(CSR("mine", 4, []int{0, 2}, []int32{3, 0}, []float32{1, 2}, []int32{1}, 2, nil)),
		"beyond":     second(CSR("mine", 3, []int{0, 2}, []int32{0, 3}, []float32{1, 2}, []int32{1}, 2, nil)),
		"label":      second(CSR("mine", 4, []int{0, 2}, []int32{0, 3}, []float32{1, 2}, []int32{2}, 2, nil)),
		"targets":    second(CSR("mine", 4, []int{0, 2}, []int32{0, 3}, []float32{1, 2}, nil, 0, nil)),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "mine: ") {
			t.Errorf("CSR with bad %s gives %v", name, err)
		}
	}
}

func second(_ Dataset, err error) error { return err }
