package table

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

func rule(t testing.TB, text string) *spec.Spec {
	t.Helper()
	s, err := spec.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open makes a table that the test closes.
func open(t testing.TB, c Config, parts int) *Table {
	t.Helper()
	tab, err := newTable(c, parts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tab.Close() })
	return tab
}

// local are the rules that a table takes, and some of their forms.
func local(t *testing.T) []string {
	out := []string{"sgd:weight_decay=0.1", "momentum:dampening=0.5", "adam:amsgrad=true", "rmsprop:centered=true,momentum=0.5",
		"adagrad:initial_accumulator_value=0.1,lr_decay=0.01,weight_decay=0.1"}
	for _, c := range optim.Names() {
		o, err := optim.New(rule(t, c.Name), model.Layout(nil).Add("x", 1))
		if err != nil {
			t.Fatal(err)
		}
		if o.Local() {
			out = append(out, c.Name)
		}
	}
	return out
}

// draw fills x with numbers around 0 of many sizes.
func draw(x []float32, r interface{ Float32() float32 }) {
	for i := range x {
		x[i] = (r.Float32() - 0.5) * float32(math.Ldexp(1, int(r.Float32()*8)-4))
	}
}

func equal(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
}

// A row begins as the model that has the table says, so that a model trained by all-reduce and one whose tables are here
// start alike.
func TestRowsBeginAsTheModelSays(t *testing.T) {
	m := model.Table{Name: "deep.embedding", Rows: 1 << 40, Width: 5, Bound: 0.05}
	tab := open(t, Config{Name: m.Name, Width: m.Width, Seed: 9, Init: m.Bound, Rule: rule(t, "ftrl")}, 2)
	rows := []uint64{0, 1, 77, 1<<40 - 1}
	got, want := make([]float32, len(rows)*m.Width), make([]float32, len(rows)*m.Width)
	if err := tab.Get(rows, got); err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		m.Initial(9)(want[i*m.Width:], row)
	}
	if !equal(got, want) {
		t.Errorf("rows begin as %v, the model's as %v", got, want)
	}
}

// A table whose rows are all in every update has the bits of the dense rule, in memory and spilled.
func TestBitsOfTheDenseRule(t *testing.T) {
	const seed, width, n = 3, 37, 1000
	for _, text := range local(t) {
		for _, budget := range []spec.Bytes{0, 2 * 64 << 10} {
			r := rng.New(seed, text)
			tab := open(t, Config{Name: "t", Width: width, Seed: seed, Init: 0.3, Rule: rule(t, text), Budget: budget, Spill: t.TempDir()}, 2)
			dense, err := optim.New(rule(t, text), model.Layout(nil).Add("x", n, width))
			if err != nil {
				t.Fatal(err)
			}
			rows := make([]uint64, n)
			for i := range rows {
				rows[i] = uint64(i) * 1_000_003
			}
			x, g, got := make([]float32, n*width), make([]float32, n*width), make([]float32, n*width)
			if err := tab.Get(rows, x); err != nil {
				t.Fatal(err)
			}
			for step := 1; step <= 5; step++ {
				draw(g, r)
				if err := tab.Apply(rows, slices.Clone(g), step, 0.05, 0.25); err != nil {
					t.Fatal(err)
				}
				dense.Begin(step, 0.05)
				dense.Apply(x, g, 0, 0.25)
				if err := tab.Get(rows, got); err != nil {
					t.Fatal(err)
				}
				if !equal(got, x) {
					t.Fatalf("seed %d: %s with budget %d: other bits than the dense rule after update %d", seed, text, budget, step)
				}
			}
			if s := tab.Stats(); (s.Spilled > 0) != (budget > 0) || s.Updates != 5*n || s.Rows != n {
				t.Errorf("%s with budget %d: %+v", text, budget, s)
			}
		}
	}
}

// A row that was in no update before has the bits of a dense one whose gradients were 0.
func TestBitsOfALateRow(t *testing.T) {
	const width = 5
	for _, text := range local(t) {
		if strings.Contains(text, "weight_decay") || text == "adamw" {
			continue
		}
		tab := open(t, Config{Name: "t", Width: width, Rule: rule(t, text)}, 2)
		dense, err := optim.New(rule(t, text), model.Layout(nil).Add("x", width))
		if err != nil {
			t.Fatal(err)
		}
		x, g, got := make([]float32, width), make([]float32, width), make([]float32, width)
		if err := tab.Get([]uint64{9}, x); err != nil {
			t.Fatal(err)
		}
		for step := 1; step <= 6; step++ {
			clear(g)
			if step > 3 {
				draw(g, rng.New(1, text, uint64(step)))
				if err := tab.Apply([]uint64{9}, slices.Clone(g), step, 0.1, 1); err != nil {
					t.Fatal(err)
				}
			}
			dense.Begin(step, 0.1)
			dense.Apply(x, g, 0, 1)
		}
		if err := tab.Get([]uint64{9}, got); err != nil {
			t.Fatal(err)
		}
		if !equal(got, x) {
			t.Errorf("%s: a row first updated at step 4 is %v, and %v in a dense vector", text, got, x)
		}
	}
}

// Initial values are uniform, and a function of seed, name and row alone.
func TestInitialValues(t *testing.T) {
	const n, width, a = 2000, 16, 0.25
	rows := make([]uint64, n)
	for i := range rows {
		rows[i] = uint64(i) << 40
	}
	values := func(name string, seed uint64, rows []uint64) []float32 {
		tab := open(t, Config{Name: name, Width: width, Seed: seed, Init: a, Rule: rule(t, "sgd")}, 4)
		out := make([]float32, len(rows)*width)
		if err := tab.Get(rows, out); err != nil {
			t.Fatal(err)
		}
		if s := tab.Stats(); s.Rows != 0 || s.Resident != 0 {
			t.Errorf("rows that were only read take room: %+v", s)
		}
		return out
	}
	x := values("t", 1, rows)
	if !equal(values("t", 1, rows[7:8]), x[7*width:8*width]) {
		t.Error("a row's values depend on the rows that are read with it")
	}
	if equal(values("t", 2, rows), x) || equal(values("u", 1, rows), x) {
		t.Error("another seed or name has the same values")
	}
	sum, squares := 0.0, 0.0
	for _, v := range x {
		if v < -a || v >= a {
			t.Fatalf("%v is not in [-%v, %v)", v, a, a)
		}
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	// Of n uniform draws the mean has a standard deviation of a/sqrt(3n), the mean square of about 0.3a^2/sqrt(n).
	m := float64(n * width)
	if mean := sum / m; math.Abs(mean) > 5*a/math.Sqrt(3*m) {
		t.Errorf("the mean is %v", mean)
	}
	if v := squares / m; math.Abs(v-a*a/3) > 5*0.3*a*a/math.Sqrt(m) {
		t.Errorf("the mean square is %v, expected %v", v, a*a/3)
	}
	for i := 1; i < n; i++ {
		if equal(x[:width], x[i*width:(i+1)*width]) {
			t.Errorf("rows 0 and %d are the same", rows[i])
		}
	}
}

// Updates of several goroutines on the same rows all count, while others read, and Each goes on.
func TestConcurrentCalls(t *testing.T) {
	const workers, times, n, width = 4, 60, 300, 256
	c := Config{Name: "t", Width: width, Rule: rule(t, "sgd"), Budget: 4 * 32 << 10, Spill: t.TempDir()}
	tab := open(t, c, 4)
	rows := make([]uint64, n)
	for i := range rows {
		rows[i] = uint64(i)
	}
	g := slices.Repeat([]float32{-1}, n*width)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			out := make([]float32, n*width)
			for k := range times {
				lo := (w*31 + k*17) % n
				if err := tab.Apply(rows[lo:], g[lo*width:], 1, 1, 1); err != nil {
					t.Error(err)
				}
				if err := tab.Apply(rows[:lo], g[:lo*width], 1, 1, 1); err != nil {
					t.Error(err)
				}
				if err := tab.Get(rows, out); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 10 {
			if err := tab.Snapshot(&bytes.Buffer{}); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	out := make([]float32, n*width)
	if err := tab.Get(rows, out); err != nil {
		t.Fatal(err)
	}
	for i, v := range out {
		if v != workers*times {
			t.Fatalf("element %d is %v after %d updates by 1", i, v, workers*times)
		}
	}
	if s := tab.Stats(); s.Updates != workers*times*n || s.Rows != n || s.Reads == 0 || s.Spilled == 0 || s.Resident > int64(c.Budget) {
		t.Errorf("%+v", s)
	}
}

func TestBadCalls(t *testing.T) {
	tab := open(t, Config{Name: "t", Rows: 9, Width: 2, Rule: rule(t, "adagrad")}, 2)
	out := make([]float32, 4)
	for want, err := range map[string]error{
		`table "t": Get: 2 rows with 3 elements, expected 2 for each row`:             tab.Get([]uint64{1, 2}, out[:3]),
		`table "t": Get: row 2 comes after row 3: rows must be sorted and distinct`:   tab.Get([]uint64{3, 2}, out),
		`table "t": Apply: row 2 comes after row 2: rows must be sorted and distinct`: tab.Apply([]uint64{2, 2}, out, 1, 1, 1),
		`table "t": Get: row 9, and there are 9`:                                      tab.Get([]uint64{1, 9}, out),
		`table "t": Apply: update 0: they count from 1`:                               tab.Apply([]uint64{1, 2}, out, 0, 1, 1),
		`table "t": Put: 1 rows with 2 elements, expected 4 for each row`:             tab.Put([]uint64{1}, out[:2]),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, expected %s", err, want)
		}
	}
	if tab.Len() != 0 {
		t.Errorf("%d rows after calls that were refused", tab.Len())
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{tab.Get([]uint64{1, 2}, out), tab.Apply([]uint64{1, 2}, out, 1, 1, 1), tab.Put([]uint64{1}, out),
		tab.Each(func([]uint64, []float32) error { return nil })} {
		if err == nil || !strings.Contains(err.Error(), "the table is closed") {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestBadConfig(t *testing.T) {
	good := func() Config {
		return Config{Name: "t", Width: 4, Rule: rule(t, "adagrad"), Budget: 4 << 20, Spill: t.TempDir()}
	}
	tab, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"a name of 0 bytes, expected 1 to 256":                                              func(c *Config) { c.Name = "" },
		"a width of 0, expected 1 to 65536":                                                 func(c *Config) { c.Width = 0 },
		"a width of 65537, expected 1 to 65536":                                             func(c *Config) { c.Width = 65537 },
		"initial values up to NaN":                                                          func(c *Config) { c.Init = float32(math.NaN()) },
		"initial values up to +Inf":                                                         func(c *Config) { c.Init = float32(math.Inf(1)) },
		"it needs an update rule, such as adagrad":                                          func(c *Config) { c.Rule = nil },
		`unknown optimizer "adagard"`:                                                       func(c *Config) { c.Rule = rule(t, "adagard") },
		"the rule lamb needs norms of all parameters":                                       func(c *Config) { c.Rule = rule(t, "lamb") },
		"the rule sgd:clip=1 needs norms of all":                                            func(c *Config) { c.Rule = rule(t, "sgd:clip=1") },
		"a budget of 1MiB is too small for rows of 8 elements: give at least 1050112, or 0": func(c *Config) { c.Budget = 1 << 20 },
		"a file to spill to: open ":                                                         func(c *Config) { c.Spill += "/none" },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}

// A page is whole disk pages, and wastes no more than a tenth.
func TestPages(t *testing.T) {
	for stride := 1; stride <= 5*widest; stride += 1 + stride/64 {
		rows, n := page(stride)
		if rows < 1 || n%(diskPage/4) != 0 || rows != n/stride || (n-rows*stride)*8 > n || n > 8*stride+diskPage/4 {
			t.Errorf("rows of %d elements: %d of them in a page of %d", stride, rows, n)
		}
	}
	if rows, n := page(32); rows != 32 || n != 1024 {
		t.Errorf("16 floats and Adagrad's: %d rows in %d elements", rows, n)
	}
}

// Calls on rows that are there make nothing that the garbage collector has to take away.
func TestAllocations(t *testing.T) {
	tab := open(t, Config{Name: "t", Width: 8, Rule: rule(t, "adam"), Budget: 4 * 32 << 10, Spill: t.TempDir()}, 4)
	rows := make([]uint64, 2000)
	for i := range rows {
		rows[i] = uint64(i)
	}
	x := make([]float32, 8*len(rows))
	step := 0
	once := func() {
		step++
		if err := tab.Apply(rows, x, step, 0.1, 1); err != nil {
			t.Fatal(err)
		}
		if err := tab.Get(rows, x); err != nil {
			t.Fatal(err)
		}
	}
	once()
	if n := testing.AllocsPerRun(10, once); n != 0 {
		t.Errorf("%v allocations for an update and a read", n)
	}
	if tab.Stats().Reads == 0 {
		t.Error("nothing was spilled")
	}
}
