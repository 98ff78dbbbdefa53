package ps

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/ps/table"
	"github.com/covey-ml/covey/vec"
)

// flat is a model of so many parameters of which servers need the layout alone.
type flat struct {
	model.Model
	n int
}

func (f flat) Layout() model.Layout { return model.Layout{{Name: "x", Shape: []int{f.n}, Len: f.n}} }

const (
	flatLen = 56 // so that either server has some, with tables, too
	flatGen = 7
)

var flatTables = []model.Table{{Name: "a", Rows: 30, Width: 2, Bound: 0.5}, {Name: "b", Rows: math.MaxUint64, Width: 1}}

// flatOwners are those of one server and of two.
var flatOwners = []owners{nil, newOwners(1), newOwners(2)}

// flatWorld is servers and workers that train nothing: the last worker says one thing, and the others are silent.
type flatWorld struct {
	choice          string
	workers, leaves int
	tables          bool
}

// said is what became of that.
type said struct {
	err           error  // what the worker was told, if it was told something
	ended         error  // of the server
	before, after string // what the server holds
	more          int    // bytes that it made room for beyond those of a push
}

// say has the last worker, or with forged server 0, send a server a request, and rows along with it unless they are nil: what
// words makes of them.
func (f flatWorld) say(t testing.TB, server int, forged bool, words func(v *server) (b, rows []byte)) (s said) {
	t.Helper()
	parsed, err := spec.Parse(f.choice)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(parsed)
	if err != nil {
		t.Fatal(err)
	}
	net, err := network.New("10gigabit", f.workers+c.Servers)
	if err != nil {
		t.Fatal(err)
	}
	world, err := sim.New(sim.Config{Network: net, Workers: f.workers + c.Servers, Timeout: 10 * time.Second, Cores: 1})
	if err != nil {
		t.Fatal(err)
	}
	sender := f.workers - 1
	if forged {
		sender = f.workers
	}
	at := f.workers + server
	ready := world.Run(t.Context(), func(g comm.Group) {
		defer g.Close()
		me := int(g.Rank())
		if me != at && me != sender {
			g.Clock().Sleep(t.Context(), 5*time.Second)
			return
		}
		p, err := f.prepared(g, c, server)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := g.Clock().WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if me == sender {
			b, rows := words(p.server)
			s.err = sayTo(ctx, g, comm.Rank(at), server, c.Servers, b, rows, p.server.hi-p.server.lo)
			g.Clock().Sleep(t.Context(), 3*time.Second)
			return
		}
		v := p.server
		v.begin(ctx, 0, 0, nil)
		s.before = v.holds()
		s.ended = v.settle(ctx)
		s.after, s.more = v.holds(), cap(v.peers[f.workers-1].rows.more)
		if v.shelf != nil {
			v.shelf.drop()
		}
	})
	if ready != nil {
		t.Fatal(ready)
	}
	return s
}

// prepared is the strategy as the server has it, whose ranges and memory say what may be sent to it.
func (f flatWorld) prepared(g comm.Group, c Config, server int) (*Strategy, error) {
	m := flat{n: flatLen}
	rule, err := spec.Parse("momentum")
	if err != nil {
		return nil, err
	}
	o, err := optim.New(rule, m.Layout())
	if err != nil {
		return nil, err
	}
	w := &strategy.Worker{Group: g, Tree: comm.NewTree(f.leaves, f.workers).Spare(c.Servers), Model: m, Optimizer: o, Generation: flatGen, Samples: 8}
	w.Frame, w.X = strategy.Frame(g, flatLen)
	for i := range w.X {
		w.X[i] = float32(i)
	}
	s := New(c)
	ranges, err := divide(m.Layout(), o, c.Servers, f.tables)
	if err != nil {
		return nil, err
	}
	s.server = newServer(c, w, ranges[server], &s.coded)
	if err := s.server.keepCopies(ranges, 1); err != nil {
		return nil, err
	}
	if !f.tables {
		return s, nil
	}
	shelf := &shelf{of: flatTables, owners: flatOwners[c.Servers], me: server}
	for _, of := range flatTables {
		rule, err := spec.Parse("adagrad")
		if err != nil {
			return nil, err
		}
		m, err := table.New(table.Config{Name: of.Name, Rows: of.Rows, Owned: shelf.owns, Width: of.Width, Init: of.Bound, Rule: rule})
		if err != nil {
			return nil, err
		}
		shelf.tables, shelf.widths = append(shelf.tables, m), append(shelf.widths, of.Width)
	}
	s.server.shelf = shelf
	return s, nil
}

// sayTo sends a request as it is, and waits for an answer of so many elements, or to a request for rows for any.
func sayTo(ctx context.Context, g comm.Group, to comm.Rank, server, servers int, b, rows []byte, n int) error {
	tag, size := tagPull, 4*n
	switch {
	case len(b) >= headBytes && b[4] == read:
		tag = tagRowsPull
	case len(b) >= headBytes && b[4] == ask:
		size = 2 * 4
	}
	answers := make([]answer, servers)
	answers[server] = answer{to: to, b: make([]byte, 1<<16), n: size}
	return exchange(ctx, g, tag, answers, "'s push", func(int) error {
		if err := g.Send(ctx, to, tagPush, b); err != nil || rows == nil {
			return err
		}
		return g.Send(ctx, to, tagRowsPush, rows)
	})
}

// holds is all that a server holds, but for the memory in which requests come.
func (v *server) holds() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := fmt.Sprint(v.w.Frame[v.lo:v.hi], v.held, v.meeting, v.version, v.stopAt, v.ends, v.prog, v.loss, v.over, v.asked, v.bad, v.served)
	for _, t := range v.w.Optimizer.State() {
		s += fmt.Sprint(t.Name, t.Data)
	}
	for _, p := range v.peers {
		s += fmt.Sprint(p.base, p.started, p.at, p.loss, p.samples, p.rate, p.step, p.counted)
	}
	if d := v.deal; d != nil {
		s += fmt.Sprint(d.step, d.leaf, d.open, len(d.sums), d.came, d.holds)
	}
	if v.shelf != nil {
		for i, t := range v.shelf.tables {
			s += fmt.Sprint(t.Stats().Rows, t.Stats().Updates)
			t.Each(func(rows []uint64, x []float32) error { s += fmt.Sprint(i, rows, x); return nil })
		}
	}
	return s
}

// goodPush is a push that a server takes first of all, and what it expects beside.
func goodPush(v *server) (request, []byte) {
	r := request{kind: push, generation: flatGen, step: 1, steps: 1, parts: len(v.peers[len(v.peers)-1].parts), rate: 0.1, samples: 2, total: 8, lo: v.lo, hi: v.hi}
	b := make([]byte, headBytes+r.parts*4*(v.hi-v.lo))
	g := vec.Floats(b[headBytes:])
	for i := range g {
		g[i] = 1 + float32(i)/8
	}
	r.encode(b)
	return r, b
}

// goodRows are the rows that come along with it: the first few of each table that the server owns.
func goodRows(v *server, parts int) []byte {
	var rows [][]sparse
	for range parts {
		var part []sparse
		for t := range flatTables {
			var s sparse
			for row := uint64(0); len(s.rows) < 3; row++ {
				if v.shelf.owners.of(row) == v.shelf.me {
					s.rows = append(s.rows, row)
					s.x = append(s.x, make([]float32, flatTables[t].Width)...)
					s.x[len(s.x)-1] = 1
				}
			}
			part = append(part, s)
		}
		rows = append(rows, part)
	}
	return rowsOf(rows)
}

func rowsOf(parts [][]sparse) []byte {
	var m rowsMessage
	m.begin()
	for _, part := range parts {
		for _, s := range part {
			m.m, m.ids = append(m.m, s.x...), appendRows(m.ids, s.rows)
		}
	}
	b, err := m.end()
	if err != nil {
		panic(err)
	}
	return slices.Clone(b)
}

func (f flatWorld) messages(v *server) (request, []byte, []byte) {
	r, b := goodPush(v)
	if !f.tables {
		return r, b, nil
	}
	return r, b, goodRows(v, r.parts)
}

// What is wrong with a push is said to the worker that sent it, and the server holds what it held before: keys out of range,
// numbers that are too few or too many, a generation that is over, payloads that are too long, numbers that are none; dense
// parameters and rows of tables.
func TestBadPushesAreRefused(t *testing.T) {
	all := func(f flatWorld) bool { return true }
	with := func(change func(r *request)) func(v *server, r request, b, rows []byte) ([]byte, []byte) {
		return func(v *server, r request, b, rows []byte) ([]byte, []byte) {
			change(&r)
			r.encode(b)
			return b, rows
		}
	}
	bent := func(part func(v *server, s []sparse)) func(v *server, r request, b, rows []byte) ([]byte, []byte) {
		return func(v *server, r request, b, rows []byte) ([]byte, []byte) {
			parts, err := decodeRowsMessage(nil, vec.Floats(rows), r.parts, flatTables, []int{2, 1})
			if err != nil {
				panic(err)
			}
			part(v, parts[len(parts)-1])
			return b, rowsOf(parts)
		}
	}
	dense := func(f flatWorld) bool { return !f.tables }
	tables := func(f flatWorld) bool { return f.tables }
	for _, of := range []struct {
		name string
		of   func(f flatWorld) bool
		bend func(v *server, r request, b, rows []byte) ([]byte, []byte)
		why  string
	}{
		{"keys out of range: elements of another server", all, with(func(r *request) { r.lo += 16; r.hi += 16 }), "elements "},
		{"keys out of range: beyond all elements", all, with(func(r *request) { r.hi = math.MaxInt64 }), "elements "},
		{"keys out of range: below 0", all, with(func(r *request) { r.lo, r.hi = -16, 0 }), "elements "},
		{"keys out of range: a row that the table has not", tables, bent(func(v *server, s []sparse) { s[0].rows[2] = 30 }), `row 30 of table "a", which has 30`},
		{"keys out of range: a row of another server", tables, bent(func(v *server, s []sparse) {
			row := s[1].rows[2] + 1
			for v.shelf.owners.of(row) == v.shelf.me {
				row++
			}
			s[1].rows[2] = row
		}), "is another server's"},
		{"wrong dimension: a part too few", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) {
			return b[:len(b)-4*(v.hi-v.lo)], rows
		}, "parts in"},
		{"wrong dimension: an element too few", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) { return b[:len(b)-4], rows }, "parts in"},
		{"wrong dimension: no whole element", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) { return b[:len(b)-1], rows }, "parts in"},
		{"wrong dimension: more parts than it says", all, with(func(r *request) { r.parts++ }), "parts in"},
		{"wrong dimension: parts beyond all bounds", all, with(func(r *request) { r.parts = math.MaxInt32 }), "parts in"},
		{"wrong dimension: rows too narrow", tables, bent(func(v *server, s []sparse) { s[0].x = s[0].x[1:] }), "numbers are left"},
		{"wrong dimension: rows too wide", tables, bent(func(v *server, s []sparse) { s[0].x = append(s[0].x, 1) }), "too many"},
		{"stale generation", all, with(func(r *request) { r.generation-- }), "it is of generation 6, and this is 7"},
		{"stale step", all, with(func(r *request) { r.step-- }), "are finished"},
		{"step to come", all, with(func(r *request) { r.step += 9 }), "are finished"},
		{"more steps than there were", all, with(func(r *request) { r.step, r.steps = math.MaxInt32, math.MaxInt32 }), "are finished"},
		{"no step", all, with(func(r *request) { r.steps = 0 }), "are finished"},
		{"oversize payload", dense, func(v *server, r request, b, rows []byte) ([]byte, []byte) {
			return append(b, make([]byte, 1<<20)...), rows
		}, "at most"},
		{"oversize payload of rows", tables, func(v *server, r request, b, rows []byte) ([]byte, []byte) {
			binary.LittleEndian.PutUint32(rows, math.MaxUint32)
			return b, rows
		}, "a message of rows with 4294967295 numbers"},
		{"NaN push", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) {
			vec.Floats(b)[len(b)/4-1] = float32(math.NaN())
			return b, rows
		}, "is not finite"},
		{"infinite push", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) {
			vec.Floats(b)[headFloats] = float32(math.Inf(-1))
			return b, rows
		}, "is not finite"},
		{"NaN push of rows", tables, bent(func(v *server, s []sparse) { s[1].x[0] = float32(math.NaN()) }), `the gradient of table "b" is not finite`},
		{"samples beyond the batch", all, with(func(r *request) { r.samples = 9 }), "9 of 8 samples"},
		{"a rate that is none", all, with(func(r *request) { r.rate = float32(math.NaN()) }), "a rate of NaN"},
		{"number beyond an int", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) { b[35] = 0xff; return b, rows }, "at byte 32"},
		{"unknown flag", all, with(func(r *request) { r.flags |= flagStop }), "flags"},
		{"unknown kind", all, with(func(r *request) { r.kind = read + 1 }), "of kind 8"},
		{"word to a server", all, with(func(r *request) { r.kind = shut; r.steps = 0 }), "not to be asked that"},
		{"another protocol", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) { b[0] = 'G'; return b, rows }, "begins with"},
		{"short", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) { return b[:headBytes-1], rows }, "its header alone has"},
		{"empty", all, func(v *server, r request, b, rows []byte) ([]byte, []byte) { return nil, rows }, "its header alone has"},
	} {
		for _, f := range flatWorlds {
			if !of.of(f) {
				continue
			}
			for i := range 2 {
				s := f.say(t, i, false, func(v *server) ([]byte, []byte) {
					r, b, rows := f.messages(v)
					return of.bend(v, r, b, rows)
				})
				name := fmt.Sprintf("%s, %+v, server %d", of.name, f, i)
				if refused := fmt.Sprintf("server %d refuses worker %d's push: ", i, f.workers-1); s.err == nil || !strings.Contains(s.err.Error(), refused) || !strings.Contains(s.err.Error(), of.why) {
					t.Errorf("%s: %v, expected %q", name, s.err, of.why)
				}
				if s.before != s.after {
					t.Errorf("%s: the server held\n%s\nand holds\n%s", name, s.before, s.after)
				}
				if s.more > 0 {
					t.Errorf("%s: it made room for %d bytes", name, s.more)
				}
			}
		}
	}
}

// The same push without a fault is taken.
func TestGoodPushesAreTaken(t *testing.T) {
	for _, f := range flatWorlds {
		for i := range 2 {
			s := f.say(t, i, false, func(v *server) ([]byte, []byte) { _, b, rows := f.messages(v); return b, rows })
			if s.err != nil && strings.Contains(s.err.Error(), "refuses") || s.before == s.after {
				t.Errorf("%+v, server %d: %v", f, i, s.err)
			}
		}
	}
}

// flatWorlds are all modes, with tables where they can be.
var flatWorlds = []flatWorld{
	{"ps:servers=2", 1, 3, false}, {"ps:servers=2", 2, 3, false}, {"ps:servers=2", 2, 3, true}, {"ps:servers=2,mode=ssp", 2, 2, false},
	{"ps:servers=2,mode=gssp", 2, 2, true}, {"ps:servers=2,mode=backup", 2, 2, false}, {"ps:servers=2,mode=async", 2, 3, false}, {"ps:servers=2,mode=async", 1, 3, true},
	{"ps:servers=2,mode=downpour", 2, 2, false}, {"ps:servers=2,mode=dc", 2, 2, false}, {"ps:servers=2,deal=dynamic", 1, 2, false}, {"ps:servers=2,deal=dynamic", 2, 1, false},
}

// long is a group in which a message of so many bytes waits.
type long struct {
	comm.Group
	need int
}

func (g long) Recv(_ context.Context, from comm.Rank, _ comm.Tag, p []byte) (comm.Rank, int, error) {
	return 0, 0, &comm.SizeError{From: from, Need: g.need, Have: len(p)}
}

// Rows that are over the bound are refused in the name of who sent them, before there is room made for them.
func TestOversizeRowsTakeNoMemory(t *testing.T) {
	m := make([]float32, 10)
	got, err := receiveRows(t.Context(), long{need: mostBytes + 4}, 3, tagRowsPush, m)
	var size *comm.SizeError
	if !errors.As(err, &size) || size.From != 3 || cap(got) > 10 {
		t.Errorf("room for %d numbers, %v", cap(got), err)
	}
}

// A header that is read is written as it was, but for what nobody reads.
func FuzzHeader(f *testing.F) {
	b := make([]byte, headBytes)
	for _, r := range []request{{kind: push, step: 1, steps: 1, parts: 3, rate: 0.1, samples: 2, total: 8, lo: 16, hi: 32}, {kind: read, generation: 1 << 31}, {kind: meet, flags: flagStop, hi: math.MaxInt}} {
		r.encode(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again request
		if r.decode(b) != nil {
			return
		}
		if r.step < 0 || r.steps < 0 || r.parts < 0 || r.samples < 0 || r.total < 0 || r.leaf < 0 || r.lo < 0 || r.hi < r.lo {
			t.Fatalf("%+v", r)
		}
		rate := r.rate
		m := make([]byte, len(b))
		r.encode(m)
		if err := again.decode(m); err != nil || math.Float32bits(again.rate) != math.Float32bits(rate) {
			t.Fatalf("%+v became %+v: %v", r, again, err)
		}
		if r.rate, again.rate = 0, 0; r != again {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

// Whatever a worker says, or one that passes itself off as server 0: a server does not panic, does not make room for more than
// came, and is as before when it refuses; and what it takes is in form.
func FuzzRequests(f *testing.F) {
	for i, w := range flatWorlds {
		v := &server{}
		w.say(f, 0, false, func(of *server) ([]byte, []byte) { v = of; return nil, nil })
		r, good, rows := w.messages(v)
		for kind := push; kind <= read+1; kind++ {
			for _, change := range []func(r *request){
				func(r *request) {},
				func(r *request) { r.steps = 0 },
				func(r *request) { r.steps, r.step = 0, 0 },
				func(r *request) { r.steps, r.step, r.flags = 0, 0, flagStop },
				func(r *request) { r.flags = flagSilent },
				func(r *request) {
					r.step, r.steps, r.leaf, r.parts = math.MaxInt32, math.MaxInt32, math.MaxInt32, math.MaxInt32
				},
			} {
				r, b := r, slices.Clone(good)
				r.kind = kind
				change(&r)
				r.encode(b)
				if kind != push {
					b = append(b[:headBytes], 1, 0, 0)
				}
				f.Add(uint8(i), false, b, rows)
				f.Add(uint8(i), true, b, rows)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, forged bool, b, rows []byte) {
		w := flatWorlds[int(which)%len(flatWorlds)]
		at := int(which) / len(flatWorlds) % 2
		if !w.tables {
			rows = nil
		}
		if forged = forged && strings.Contains(w.choice, "backup"); forged {
			at = 1
		}
		var of *server
		s := w.say(t, at, forged, func(v *server) ([]byte, []byte) { of = v; return b, rows })
		var r request
		if s.more > 2*len(b) {
			t.Fatalf("room for %d bytes, and %d came", s.more, len(b))
		}
		refused := r.decode(b) != nil || r.kind == read || s.err != nil && strings.Contains(s.err.Error(), "refuses")
		if refused {
			if s.before != s.after {
				t.Fatalf("%v: the server held\n%s\nand holds\n%s", s.err, s.before, s.after)
			}
			return
		}
		if s.before == s.after || forged || r.kind != push {
			return
		}
		if g := vec.Floats(b[headBytes:]); r.generation != flatGen || r.lo != of.lo || r.hi != of.hi || r.length != headBytes+r.parts*4*(of.hi-of.lo) || !vec.Finite(g) || !(r.rate > 0) {
			t.Fatalf("%+v was taken", r)
		}
	})
}
