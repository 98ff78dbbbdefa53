package local

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/spec"
)

func parse(text string) (Config, error) {
	s, err := spec.Parse(text)
	if err != nil {
		return Config{}, err
	}
	return Parse(s)
}

// What does not go together, or is out of range, is refused with what would do.
func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"local:K=0":                         "K is 0, expected 1",
		"local:k=4":                         `did you mean "K"`,
		"locla:K=4":                         `did you mean "local"`,
		"local:K=4,period=los":              `did you mean "loss"`,
		"postlocal:K=4,start=-1":            "start is -1",
		"postlocal:K=4,period=loss":         "postlocal does not go with period",
		"hierarchical:K=4,groups=0":         "groups is 0",
		"hierarchical:K=4,overlap=1":        "hierarchical does not go with overlap",
		"fedprox:mu=-1":                     "mu is -1",
		"scaffold:K=4,option=3":             "option is 3",
		"scaffold:K=4,fragments=2":          "scaffold does not go with fragments",
		"scaffold:K=4,rate=0":               "rate is 0",
		"easgd:K=4,overlap=2":               "easgd does not go with overlap",
		"easgd:K=4,beta=1.5":                "beta is 1.5",
		"easgd:K=4,alpha=0.1,beta=0.3":      `unknown parameter "beta"`,
		"bmuf:momentum=1":                   "momentum is 1",
		"diloco:rate=-1":                    "rate is -1",
		"diloco:momentum=-1":                "momentum is -1",
		"diloco:K=4,fragments=5":            "5 fragments in a period of 4",
		"diloco:K=8,fragments=2,overlap=4":  "expected 0 to 3",
		"diloco:K=8,alpha=0.5":              "give overlap too",
		"diloco:K=8,overlap=2,alpha=1":      "alpha is 1",
		"diloco:K=8,overlap=2,period=loss":  "does not go with fragments or overlap",
		"local:K=8,fragments=2,period=loss": "does not go with fragments or overlap",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, expected one that says %q", text, err, want)
		}
	}
	for _, inner := range []string{"momentum", "sgd:momentum=0.9", "sgd:weight_decay=0.1", "adam"} {
		s, _ := spec.Parse(inner)
		c, _ := parse("scaffold:K=4")
		if err := c.Inner(s); err == nil || !strings.Contains(err.Error(), "use sgd") {
			t.Errorf("scaffold with %s: error %v", inner, err)
		}
		c, _ = parse("diloco:K=4")
		if err := c.Inner(s); err != nil {
			t.Errorf("diloco with %s: error %v", inner, err)
		}
	}
	for text, replicas := range map[string]int{"hierarchical:K=2,groups=5": 4, "easgd:K=2,alpha=0.3": 4} {
		c, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if c.Fits(replicas) == nil || c.Fits(2) == nil && text[0] == 'h' {
			t.Errorf("%s fits %d replicas", text, replicas)
		}
	}
}

// A method prints as what Parse reads back.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"local:16", "postlocal:K=4,start=9", "hierarchical:K=2,groups=3,outer=5", "fedprox:mu=1e-3", "scaffold:option=1,rate=0.5",
		"easgd:beta=0.5", "easgd:alpha=0.01", "bmuf", "bmuf:momentum=0.5,nesterov=true", "diloco:K=64,fragments=4,overlap=5,alpha=0.5", "local:period=divergence"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(c.String())
		if err != nil || again != c {
			t.Errorf("%q is %+v, printed as %s: %+v, %v", text, c, c, again, err)
		}
	})
}

// AdaComm's rule (Wang and Joshi, arXiv 1810.08313, section 4): K = ceil(sqrt(F/F0) K0), here never above K0.
func TestByLoss(t *testing.T) {
	for _, c := range []struct {
		k0         int
		first, now float64
		want       int
	}{
		{16, 2, 2, 16}, {16, 2, 1, 12}, {16, 2, 0.5, 8}, {16, 2, 0.02, 2}, {16, 2, 1e-9, 1}, {16, 2, 8, 16}, {16, 2, 1e300, 16},
		{1, 2, 1, 1}, {10, 1, 0.81, 9}, {10, 1, 0.82, 10}, {16, 2, 0, 1}, {16, 0, 1, 1}, {16, 1, math.NaN(), 1}, {16, math.NaN(), 1, 1},
	} {
		if k, why := byLoss(c.k0, c.first, c.now); k != c.want || why == "" {
			t.Errorf("K0 %d, loss %v at first and %v now: K is %d (%s), expected %d", c.k0, c.first, c.now, k, why, c.want)
		}
	}
}

func TestByDivergence(t *testing.T) {
	for _, c := range []struct {
		k0, k         int
		spread, moved float64
		want          int
	}{
		{4, 4, 1.1, 1, 2}, {4, 4, 1, 1, 4}, {4, 4, 0.25, 1, 4}, {4, 4, 0.24, 1, 8}, {4, 1, 9, 1, 1}, {4, 32, 0, 1, 32}, {4, 4, 1, 0, 4}, {4, 4, 1, math.NaN(), 4},
	} {
		if k, why := byDivergence(c.k0, c.k, c.spread, c.moved); k != c.want || why == "" {
			t.Errorf("K0 %d, K %d, spread %v, moved %v: K is %d (%s), expected %d", c.k0, c.k, c.spread, c.moved, k, why, c.want)
		}
	}
}

// With period=loss the rounds' losses decide, beside that of the first, and a decision says when it changes something; a
// checkpoint amid a round keeps what the first round's was.
func TestPeriodFollowsTheLoss(t *testing.T) {
	const k = 64
	s, w := lone(t, "local:K=64,period=loss", counts)
	w.Rate = 0.01
	first, was := 0.0, k
	for round := range 5 {
		all := steps(t, s, w, 5, false)
		state, x, step := snapshot(s.State()), slices.Clone(w.X), w.Step
		s, w = lone(t, "local:K=64,period=loss", counts)
		if err := s.Prepare(w); err != nil {
			t.Fatal(err)
		}
		if err := s.Load(state); err != nil {
			t.Fatal(err)
		}
		copy(w.X, x)
		w.Rate, w.Step = 0.01, step
		all = append(all, steps(t, s, w, was-5, false)...)
		said := all[was-1]
		if said.Quiet || !all[was-2].Quiet {
			t.Fatalf("round %d did not take %d steps", round+1, was)
		}
		if first == 0 {
			first = said.Loss
		}
		want, why := byLoss(k, first, said.Loss)
		if s.k != want || said.Decided.Why != why || said.Decided.New != (want != was) {
			t.Errorf("round %d: K is %d, decided %+v; expected %d, since %s", round+1, s.k, said.Decided, want, why)
		}
		was = want
	}
	if was == k {
		t.Error("the loss never changed the period")
	}
}

// The divergence that an exchange measures is the replicas' weighted mean squared distance from their mean.
func TestDivergenceIsMeasured(t *testing.T) {
	s, w := lone(t, "local:K=4,period=divergence", counts)
	x := make([]float64, dim)
	ys := all(x, 4, 0)
	m := mean(ys)
	spread, moved := 0.0, 0.0
	for k := range m {
		moved += m[k] * m[k]
		for r, y := range ys {
			spread += float64(counts[r]) / 8 * (y[k] - m[k]) * (y[k] - m[k])
		}
	}
	want, why := byDivergence(4, 4, spread, moved)
	d := steps(t, s, w, 4, false)[3].Decided
	if d == nil || d.Why != why || s.k != want || d.New != (want != 4) {
		t.Errorf("decided %+v, K is %d; expected %d, since %s", d, s.k, want, why)
	}
}

// State that no run leaves is refused, and changes nothing.
func TestLoadRefuses(t *testing.T) {
	methods := []string{"local:K=3", "scaffold:K=3", "diloco:K=8,fragments=2,overlap=3"}
	for _, method := range methods {
		s, w := lone(t, method, counts)
		steps(t, s, w, 5, false)
		good := snapshot(s.State())
		change := func(name string, f func(ckpt.Tensor) ckpt.Tensor) []ckpt.Tensor {
			ts := snapshot(good)
			for i := range ts {
				if ts[i].Name == name {
					ts[i] = f(ts[i])
				}
			}
			return ts
		}
		short := func(t ckpt.Tensor) ckpt.Tensor {
			t.Shape, t.Data = []int{len(t.Data) / t.Type.Size() / 2}, t.Data[:len(t.Data)/t.Type.Size()/2*t.Type.Size()]
			return t
		}
		first := func(v byte) func(ckpt.Tensor) ckpt.Tensor { // the first number becomes v, or below 0
			return func(t ckpt.Tensor) ckpt.Tensor {
				for i := range 8 {
					t.Data[i] = v
				}
				return t
			}
		}
		last := func(t ckpt.Tensor) ckpt.Tensor { // the last number becomes below 0
			t.Data[len(t.Data)-1] = 0x80
			return t
		}
		bad := map[string][]ckpt.Tensor{"short books": change("books", short), "books below 0": change("books", last), "a period of 0": change("books", first(0)),
			"huge books": change("books", first(0x7f)), "short replicas": change("x", short), "no losses": slices.DeleteFunc(snapshot(good), func(t ckpt.Tensor) bool { return t.Name == "losses" })}
		if strings.HasPrefix(method, "diloco") {
			bad["a fragment that is not there"] = change("flight", func(t ckpt.Tensor) ckpt.Tensor { t.Data[0] = 2; return t })
			bad["a total that is no number"] = change("total", first(0xff))
			bad["a total of 0"] = change("total", first(0))
			bad["a short sum"] = change("sum", short)
			bad["no sum"] = slices.DeleteFunc(snapshot(good), func(t ckpt.Tensor) bool { return t.Name == "sum" })
		}
		for what, ts := range bad {
			if err := s.Load(ts); err == nil {
				t.Errorf("%s: %s is loaded", method, what)
			} else if after := s.State(); !slices.EqualFunc(after, good, func(a, b ckpt.Tensor) bool { return a.Name == b.Name && slices.Equal(a.Data, b.Data) }) {
				t.Errorf("%s: %s is refused (%v), and changed something", method, what, err)
			}
		}
		if err := s.Load(good); err != nil {
			t.Errorf("%s: its own state: %v", method, err)
		}
	}
}

// snapshot copies what State aliases.
func snapshot(ts []ckpt.Tensor) []ckpt.Tensor {
	out := slices.Clone(ts)
	for i := range out {
		out[i].Data = slices.Clone(out[i].Data)
	}
	return out
}
