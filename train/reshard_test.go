package train_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/allreduce"
	"github.com/covey-ml/covey/train"
)

// keeper trains as allreduce does, and has a tensor of each way to re-shard.
type keeper struct {
	*allreduce.Strategy
	tensors []ckpt.Tensor
	loads   int
}

func (k *keeper) State() []ckpt.Tensor { return k.tensors }

func (k *keeper) Load(ts []ckpt.Tensor) error {
	k.loads++
	return ckpt.Restore(ts, k.tensors)
}

// value is a number that no other rank, tensor or place has, with a full mantissa.
func value(rank, tensor, i int) float64 {
	return math.Sin(float64(1+rank)*1.7+float64(tensor)*0.3+float64(i)*0.013) * math.Ldexp(1, rank%3)
}

// keeps makes a worker's keeper. A worker that is to load has nothing in it but what is dropped.
func keeps(tree comm.Tree, rank, width int, full bool) *keeper {
	lo, hi := tree.Run(comm.Rank(rank))
	same, part, fine := make([]float32, 3), make([]float32, 2*width), make([]float64, 3)
	variates, counts := make([]float32, (hi-lo)*width), make([]uint64, hi-lo)
	lost := []byte("begins")
	if full {
		lost = []byte("passed")
		for i := range same {
			same[i], fine[i] = float32(value(0, 0, i)), value(rank, 1, i)
		}
		for i := range part {
			part[i] = float32(value(rank, 2, i))
		}
		for i := range variates {
			variates[i] = float32(value(lo+i/width, 3, i%width))
		}
		for i := range counts {
			counts[i] = uint64(lo+i) << 40
		}
	}
	return &keeper{Strategy: allreduce.New(), tensors: []ckpt.Tensor{
		ckpt.Float32s("same", nil, same),
		ckpt.Float32s("part", []int{2, width}, part).With(ckpt.Summed),
		ckpt.Float64s("fine", nil, fine).With(ckpt.Summed),
		ckpt.Float32s("variates", []int{hi - lo, width}, variates).With(ckpt.PerClient),
		ckpt.Uint64s("counts", []int{hi - lo}, counts).With(ckpt.PerClient),
		ckpt.Bytes("lost", nil, lost).With(ckpt.Dropped),
	}}
}

func (k *keeper) tensor(t *testing.T, name string) ckpt.Tensor {
	t.Helper()
	i := slices.IndexFunc(k.tensors, func(x ckpt.Tensor) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("no tensor %s", name)
	}
	return k.tensors[i]
}

func floats(t *testing.T, x ckpt.Tensor) []float64 {
	t.Helper()
	out := make([]float64, x.Len())
	if x.Type == ckpt.F64 {
		if err := x.CopyTo(out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	narrow := make([]float32, x.Len())
	if err := x.CopyTo(narrow); err != nil {
		t.Fatal(err)
	}
	for i, v := range narrow {
		out[i] = float64(v)
	}
	return out
}

// together runs c on a worker for each keeper.
func together(t *testing.T, c train.Config, ks []*keeper) (*train.Report, []string, []error) {
	t.Helper()
	groups := inproc.New(len(ks), timeout)
	errs := make([]error, len(ks))
	var report *train.Report
	var notes []string
	ended := make(chan struct{})
	for rank, g := range groups {
		c := c
		c.Strategy = func() strategy.Strategy { return ks[rank] }
		if rank > 0 {
			c.Dir, c.Resume = "", ""
		} else {
			c.Events.Start = func(i train.StartInfo) { notes = i.Notes }
		}
		g.Clock().Go(func() {
			r, err := train.Run(context.WithoutCancel(t.Context()), g, c)
			if errs[rank] = err; rank == 0 {
				report = r
			}
			g.Close()
			ended <- struct{}{}
		})
	}
	for range ks {
		<-ended
	}
	return report, notes, errs
}

// small is a run of one step.
func small(t *testing.T, shards int) train.Config {
	c := config(t, "softmax")
	c.Test, c.Steps, c.Microshards = nil, 1, shards
	return c
}

func team(n, shards, width int, full bool) []*keeper {
	tree := comm.NewTree(shards, n)
	ks := make([]*keeper, n)
	for rank := range ks {
		ks[rank] = keeps(tree, rank, width, full)
	}
	return ks
}

// saved runs n workers for a step and returns the checkpoint's folder.
func saved(t *testing.T, c train.Config, ks []*keeper) (string, *train.Report) {
	t.Helper()
	c.Dir = t.TempDir()
	r, _, errs := together(t, c, ks)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if r.BytesSent != r.BytesExpected {
		t.Errorf("%d workers: %d bytes sent, %d expected\n%+v", len(ks), r.BytesSent, r.BytesExpected, r.Ops)
	}
	return latest(t, c.Dir), r
}

// What n workers saved, m load: each kind of tensor as its Shard says. With 6 microshards 7 and 8 workers have spares.
func TestReshard(t *testing.T) {
	const shards, width, most = 6, 5, 8
	c := small(t, shards)
	for n := 1; n <= most; n++ {
		before := team(n, shards, width, true)
		c := c
		path, r := saved(t, c, before)
		// Each worker but rank 0 sends its own rows, and nobody sends anything else in an all-to-all.
		own := 0
		for _, k := range before[1:] {
			for _, name := range []string{"part", "fine", "variates", "counts"} {
				own += len(k.tensor(t, name).Data)
			}
		}
		i := slices.IndexFunc(r.Ops, func(o train.OpSum) bool { return o.Op == comm.OpAllToAll.String() })
		if n > 1 && (i < 0 || r.Ops[i].Payload != int64(own)) {
			t.Errorf("%d workers sent %+v, expected an all-to-all of %d bytes", n, r.Ops, own)
		}
		for m := 1; m <= most; m++ {
			c := c
			c.Resume = path
			after := team(m, shards, width, false)
			r, notes, errs := together(t, c, after)
			if err := errors.Join(errs...); err != nil {
				t.Fatalf("%d to %d workers: %v", n, m, err)
			}
			if r.BytesSent != r.BytesExpected {
				t.Errorf("%d to %d workers: %d bytes sent, %d expected", n, m, r.BytesSent, r.BytesExpected)
			}
			t.Run(fmt.Sprintf("%d to %d", n, m), func(t *testing.T) { compare(t, before, after, shards, notes) })
		}
	}
}

func compare(t *testing.T, before, after []*keeper, shards int, notes []string) {
	want := team(len(after), shards, before[0].tensor(t, "part").Shape[1], true)
	for rank, k := range after {
		for _, name := range []string{"same", "variates", "counts"} {
			if have := k.tensor(t, name); !bytes.Equal(have.Data, want[rank].tensor(t, name).Data) {
				t.Errorf("worker %d: %s is not what its owners saved", rank, name)
			}
		}
		if lost := k.tensor(t, "lost"); string(lost.Data) != "begins" {
			t.Errorf("worker %d: what is dropped came back as %q", rank, lost.Data)
		}
	}
	for _, name := range []string{"part", "fine"} {
		if len(before) == len(after) {
			for rank := range after {
				if !bytes.Equal(before[rank].tensor(t, name).Data, after[rank].tensor(t, name).Data) {
					t.Errorf("worker %d: its row of %s is not the one it saved", rank, name)
				}
			}
			continue
		}
		sums(t, name, before, after, shards)
	}
	told := strings.Join(notes, "; ")
	if !strings.Contains(told, "strategy/lost: not in the checkpoint") {
		t.Errorf("told %q, nothing of what is dropped", told)
	}
	if shared := strings.Contains(told, "strategy/fine, strategy/part of"); shared == (len(before) == len(after)) {
		t.Errorf("told %q of sums", told)
	}
}

// sums checks that the sum over workers is kept. A share is the exact quotient but for one rounding to float32 of 2^-24 of
// it, all shares are the same, and so their sum is off by 2^-24 of the sum at most. To that comes the float64 in which it is
// all added: 16 times 2^-53 of what was added up, by size. Of float64 tensors that is all.
func sums(t *testing.T, name string, before, after []*keeper, shards int) {
	x := make([][]float64, len(before))
	for rank, k := range before {
		x[rank] = floats(t, k.tensor(t, name))
	}
	got := make([]float64, len(x[0]))
	for rank, k := range after {
		for i, v := range floats(t, k.tensor(t, name)) {
			if got[i] += v; rank >= shards && v != 0 {
				t.Fatalf("worker %d owns no microshard and has %v of %s", rank, v, name)
			}
		}
	}
	for i := range got {
		want, size := 0.0, 0.0
		for _, row := range x {
			want += row[i]
			size += math.Abs(row[i])
		}
		bound := 16 * math.Ldexp(size, -53)
		if before[0].tensor(t, name).Type == ckpt.F32 {
			bound += math.Ldexp(math.Abs(want), -24)
		}
		if math.Abs(got[i]-want) > bound || want == 0 {
			t.Fatalf("%s[%d]: the sum was %v and is %v, off by %g where %g is allowed", name, i, want, got[i], got[i]-want, bound)
		}
	}
}

// Tensors that do not fit in one message go in several, and what is read is handed out in several.
func TestReshardLarge(t *testing.T) {
	const width = 1<<19 + 3 // two rows of so many float32 are a little more than a message
	before := team(2, 3, width, true)
	c := small(t, 3)
	path, _ := saved(t, c, before)
	c.Resume = path
	for _, m := range []int{2, 3} {
		after := team(m, 3, width, false)
		_, notes, errs := together(t, c, after)
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		compare(t, before, after, 3, notes)
	}
}

// Workers whose state does not fit together are told so, all in the same words, and nothing is saved.
func TestStatesThatDiffer(t *testing.T) {
	const shards, width = 6, 5
	for want, change := range map[string]func(*keeper){
		`worker 2: tensor "strategy/part" has rows of F32 [7], summed; worker 0's has rows of F32 [2 5], summed`: func(k *keeper) {
			k.tensors[1] = ckpt.Float32s("part", nil, make([]float32, 7)).With(ckpt.Summed)
		},
		`worker 2: tensor "strategy/fine" has rows of F32 [3], summed; worker 0's has rows of F64 [3], summed`: func(k *keeper) {
			k.tensors[2] = ckpt.Float32s("fine", nil, make([]float32, 3)).With(ckpt.Summed)
		},
		`worker 2: tensor "strategy/fine" (rows of F64 [3], summed) is missing`:          func(k *keeper) { k.tensors = slices.Delete(k.tensors, 2, 3) },
		`worker 2: tensor "strategy/same" (rows of F32 [3], summed) is not among worker`: func(k *keeper) { k.tensors[0].Shard = ckpt.Summed },
		`worker 2: tensor "strategy/part" (rows of F32 [2 5], summed) is missing`:        func(k *keeper) { k.tensors[1].Shard = ckpt.Dropped },
		`worker 2: tensor "strategy/counts": its shape is [3], expected a row for each of 2 clients`: func(k *keeper) {
			k.tensors[4] = ckpt.Uint64s("counts", nil, make([]uint64, 3)).With(ckpt.PerClient)
		},
		`worker 2: tensor "strategy/counts": U64 has no shares of a sum: F32 and F64 have`: func(k *keeper) { k.tensors[4].Shard = ckpt.Summed },
		`worker 2: tensor "strategy/part": it is there twice`:                              func(k *keeper) { k.tensors = append(k.tensors, k.tensors[1]) },
		`worker 2: tensor "strategy/part": F32 [2 5] takes 40 bytes, there are 36`:         func(k *keeper) { k.tensors[1].Data = k.tensors[1].Data[:36] },
	} {
		c := small(t, shards)
		c.Dir = t.TempDir()
		ks := team(3, shards, width, true)
		change(ks[2])
		_, _, errs := together(t, c, ks)
		for rank, err := range errs {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("worker %d: error %v\nwant %s", rank, err, want)
			}
		}
		if all, err := ckpt.List(c.Dir); err != nil || len(all) != 0 {
			t.Errorf("%s: checkpoints %v, %v", want, all, err)
		}
	}
}

// A checkpoint whose state is not what the run expects is refused on every worker, and no part has taken any of it.
func TestStateThatDoesNotFit(t *testing.T) {
	const shards, width = 6, 5
	c := small(t, shards)
	path, _ := saved(t, c, team(3, shards, width, true))
	whole, err := ckpt.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	find := func(ts []ckpt.Tensor, name string) *ckpt.Tensor {
		return &ts[slices.IndexFunc(ts, func(x ckpt.Tensor) bool { return x.Name == "strategy/"+name })]
	}
	without := func(name string) func([]ckpt.Tensor) []ckpt.Tensor {
		return func(ts []ckpt.Tensor) []ckpt.Tensor {
			return slices.DeleteFunc(ts, func(x ckpt.Tensor) bool { return x.Name == name })
		}
	}
	for want, change := range map[string]func([]ckpt.Tensor) []ckpt.Tensor{
		`tensor "strategy/part" is saved as F32 [2 2 5], summed, expected 3 rows`: func(ts []ckpt.Tensor) []ckpt.Tensor {
			x := find(ts, "part")
			x.Shape, x.Data = []int{2, 2, 5}, x.Data[:80]
			return ts
		},
		`tensor "strategy/counts" is saved as U64 [5], client, expected 6 rows`: func(ts []ckpt.Tensor) []ckpt.Tensor {
			x := find(ts, "counts")
			x.Shape, x.Data = []int{5}, x.Data[:40]
			return ts
		},
		`tensor "strategy/part" is saved as F32 [], summed, expected 3 rows`: func(ts []ckpt.Tensor) []ckpt.Tensor {
			x := find(ts, "part")
			x.Shape, x.Data = nil, x.Data[:4]
			return ts
		},
		`tensor "strategy/same" is saved as U64, summed, which has no shares of a sum`: func(ts []ckpt.Tensor) []ckpt.Tensor {
			*find(ts, "same") = ckpt.Uint64s("strategy/same", nil, make([]uint64, 3)).With(ckpt.Summed)
			return ts
		},
		`tensor "same" is saved as client and replicated here`: func(ts []ckpt.Tensor) []ckpt.Tensor {
			*find(ts, "same") = ckpt.Float32s("strategy/same", nil, make([]float32, shards)).With(ckpt.PerClient)
			return ts
		},
		`tensor "part" is F32 [5 2] where F32 [2 5] is expected`: func(ts []ckpt.Tensor) []ckpt.Tensor {
			find(ts, "part").Shape = []int{3, 5, 2}
			return ts
		},
		`the state of the strategy: tensor "fine" (F64 [3]) is expected and not in the checkpoint`: without("strategy/fine"),
		`tensor "once"`: without("samples/once"),
		`tensor "reducer/part" (F32 [1]) belongs to nothing that this run has`: func(ts []ckpt.Tensor) []ckpt.Tensor {
			return append(ts, ckpt.Float32s("reducer/part", nil, make([]float32, 1)))
		},
	} {
		torn := whole
		torn.State = change(slices.Clone(whole.State))
		d := c
		d.Resume = t.TempDir() + "/torn"
		if err := ckpt.Save(d.Resume, torn); err != nil {
			t.Fatal(err)
		}
		ks := team(2, shards, width, false)
		_, _, errs := together(t, d, ks)
		for rank, err := range errs {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("worker %d: error %v\nwant %s", rank, err, want)
			}
			if ks[rank].loads != 0 {
				t.Errorf("worker %d took state and then refused it: %s", rank, want)
			}
		}
	}
}

// A run without state of a worker's own leaves the checkpoints that runs left before there was such state.
func TestCheckpointsWithoutStateOfAWorkersOwn(t *testing.T) {
	c := small(t, 6)
	c.Dir = t.TempDir()
	r, err := train.Local(t.Context(), 3, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(r.Ops, func(o train.OpSum) bool { return o.Op == comm.OpAllToAll.String() }); i >= 0 {
		t.Errorf("there is nothing to bring to rank 0, and %+v were sent", r.Ops[i])
	}
	c.Resume = latest(t, c.Dir)
	m, err := ckpt.Verify(c.Resume)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"dropped", "compress"} {
		if strings.Contains(string(m.Extra["progress"]), key) {
			t.Errorf("the manifest speaks of %s: %s", key, m.Extra["progress"])
		}
	}
	c.Steps = 2
	if _, err := train.Local(t.Context(), 2, timeout, c); err != nil {
		t.Fatal(err)
	}
}
