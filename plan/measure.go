package plan

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Effort is how long to measure.
type Effort struct {
	Repeats int           // blocks that a reading is the median of; odd
	Block   time.Duration // of each block, at least
}

// The efforts of covey probe.
var (
	Careful = Effort{Repeats: 9, Block: 100 * time.Millisecond}
	Quick   = Effort{Repeats: 3, Block: 3 * time.Millisecond}
)

// blocks measures the calls a second that n goroutines together make, each of a function of its own, which work makes.
func (e Effort) blocks(n int, work func(i int) func() error) (Reading, error) {
	clock := comm.RealClock()
	fs, errs := []func() error{}, []error{}
	for i := range n {
		f := work(i)
		if err := f(); err != nil { // and memory is there, and warm
			return Reading{}, err
		}
		fs, errs = append(fs, f), append(errs, nil)
	}
	var all []float64
	for range e.Repeats {
		rates := make([]float64, n)
		each(n, func(i int) {
			start := clock.Now()
			for calls := 1; ; calls++ {
				if errs[i] = fs[i](); errs[i] != nil {
					return
				}
				if d := clock.Now() - start; d >= e.Block {
					rates[i] = float64(calls) / d.Seconds()
					return
				}
			}
		})
		sum := 0.0
		for _, r := range rates {
			sum += r
		}
		for _, err := range errs {
			if err != nil {
				return Reading{}, err
			}
		}
		all = append(all, sum)
	}
	return reading(all), nil
}

// times is the reading in units of which each call makes so many.
func (r Reading) times(x float64) Reading {
	return Reading{r.Median * x, r.Least * x, r.Most * x, r.Repeats}
}

// Compute measures the FLOPs a second of gradients of m on n samples of ds, on one core and on so many at once. A model that
// does not say what it costs counts 6 a parameter and sample: a product and a sum each forward, for the weights and for the inputs.
func (e Effort) Compute(ctx context.Context, m model.Model, ds data.Dataset, n, cores int) (one, all Reading, err error) {
	flops := 6 * float64(m.Layout().Len()) * float64(n)
	if c, ok := m.(model.Costed); ok {
		flops = float64(c.FLOPs(n))
	}
	defer vec.SetThreads(vec.Threads())
	vec.SetThreads(1)
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i % ds.Len()
	}
	x := make([]float32, m.Layout().Len())
	m.Init(x, 1)
	work := func(int) func() error {
		var b data.Batch
		ds.Gather(&b, ids)
		g := make([]float32, len(x))
		return func() error {
			_, err := m.Grad(ctx, x, g, &b, nil)
			return err
		}
	}
	if one, err = e.blocks(1, work); err == nil {
		all, err = e.blocks(cores, work)
	}
	return one.times(flops), all.times(flops), err
}

// Adding measures the bytes a second of adding one vector of so many bytes to another, on n cores at once, each with its own.
func (e Effort) Adding(bytes, n int) Reading {
	r, _ := e.blocks(n, func(int) func() error {
		x, y := make([]float32, bytes/4), make([]float32, bytes/4)
		for i := range x {
			x[i], y[i] = 1, 0
		}
		return func() error {
			vec.Add(x, y)
			return nil
		}
	})
	return r.times(3 * float64(bytes/4*4))
}

// The vectors that are added.
const (
	inCacheBytes = 64 << 10 // two of them stay in any second-level cache
	leastBeyond  = 16 << 20
	mostBeyond   = 256 << 20 // for all cores together
)

// beyond is the bytes of a vector that no cache keeps, for so many cores at once.
func beyond(cache, cores int) int {
	return max(1<<20, min(max(leastBeyond, 2*cache), mostBeyond)/cores)
}

// Machine measures what this process's machine computes and streams, with the model's gradients on n samples.
func (e Effort) Machine(ctx context.Context, m model.Model, ds data.Dataset, n int) (*Probe, error) {
	p := &Probe{Version: ProbeVersion, System: fmt.Sprintf("%s/%s, kernels %s", runtime.GOOS, runtime.GOARCH, vec.Kernels()),
		Cores: runtime.GOMAXPROCS(0), Cache: lastCache("/sys/devices/system/cpu/cpu0/cache"), RAM: memory("/proc/meminfo"), Batch: n, Transports: map[string]Transport{}}
	var err error
	if p.FLOPS, p.FLOPSAll, err = e.Compute(ctx, m, ds, n, p.Cores); err != nil {
		return nil, err
	}
	p.InCache = e.Adding(inCacheBytes, 1)
	p.Memory = e.Adding(beyond(p.Cache, 1), 1)
	p.MemoryAll = e.Adding(beyond(p.Cache, p.Cores), p.Cores)
	return p, nil
}

// lastCache is the bytes of the largest cache that the folder describes, 0 where it does not.
func lastCache(dir string) (most int) {
	files, _ := filepath.Glob(filepath.Join(dir, "index*", "size"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if b, err := spec.ParseBytes(strings.TrimSuffix(strings.TrimSpace(string(text)), "K") + "KiB"); err == nil {
			most = max(most, int(b))
		}
	}
	return most
}

// memory is the bytes of memory that the file tells of, 0 where it does not.
func memory(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 40)
			return kib << 10
		}
	}
	return 0
}

// How Messages measures the processor time of messages.
const (
	smallMessages = 4096
	smallBytes    = 16
	largeMessages = 64
	largeBytes    = 1 << 20
)

// Messages measures what messages cost between ranks 0 and 1 of g, and returns the same on every rank. Every rank must
// call it, as a collective. cpu is the processor time that this process has used so far, or nil: then that of messages is not measured.
func (e Effort) Messages(ctx context.Context, g comm.Group, cpu func() time.Duration) (Transport, error) {
	var t Transport
	var prices [4][]float64
	for range e.Repeats {
		c, err := comm.MeasureCosts(ctx, g)
		if err != nil {
			return t, err
		}
		for i, x := range []float64{c.Alpha, c.Message, c.Beta, c.Gamma} {
			prices[i] = append(prices[i], x)
		}
	}
	for i, r := range []*Reading{&t.Alpha, &t.Message, &t.Beta, &t.Gamma} {
		*r = reading(prices[i])
	}
	if cpu == nil || g.Size() < 2 {
		return t, nil
	}
	var used [2][]float64 // of this rank, a small and a large message
	for range e.Repeats {
		for i, m := range [2]struct{ count, bytes int }{{smallMessages, smallBytes}, {largeMessages, largeBytes}} {
			took, err := stream(ctx, g, m.count, m.bytes, cpu)
			if err != nil {
				return t, err
			}
			used[i] = append(used[i], took.Seconds()/float64(m.count))
		}
	}
	small, large := reading(used[0]).Median, reading(used[1]).Median
	var mine [16]byte
	binary.LittleEndian.PutUint64(mine[:], math.Float64bits(small))
	binary.LittleEndian.PutUint64(mine[8:], math.Float64bits(max(0, large-small)/largeBytes))
	all, err := comm.AllGatherBytes(ctx, g, mine[:], nil)
	if err != nil {
		return t, err
	}
	at := func(r, i int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(all[r][8*i:])) }
	t.Send, t.SendByte, t.Receive, t.ReceiveByte = at(0, 0), at(0, 1), at(1, 0), at(1, 1)
	return t, nil
}

// stream sends messages from rank 0 to rank 1 and returns the processor time that this rank's process used meanwhile.
func stream(ctx context.Context, g comm.Group, count, bytes int, cpu func() time.Duration) (time.Duration, error) {
	if err := comm.Barrier(ctx, g); err != nil {
		return 0, err
	}
	p, tag := make([]byte, bytes), comm.MakeTag(comm.OpSend, 1)
	start := cpu()
	var err error
	for i := 0; i < count && err == nil && g.Rank() < 2; i++ {
		if g.Rank() == 0 {
			err = g.Send(ctx, 1, tag, p)
		} else {
			_, _, err = g.Recv(ctx, 0, tag, p)
		}
	}
	used := cpu() - start
	if err != nil {
		return 0, err
	}
	return used, comm.Barrier(ctx, g)
}
