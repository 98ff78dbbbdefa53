package optim

import (
	"math"
	"strings"
	"testing"
)

func schedule(t testing.TB, s string, base float64, total, batch int) *Schedule {
	t.Helper()
	sc, err := NewSchedule(parse(t, s), base, total, batch)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func TestSchedulesByHand(t *testing.T) {
	for _, c := range []struct {
		s     string
		total int
		batch int
		want  []float64 // the rates of updates 1, 2, ...; the base rate is 0.8
	}{
		{"constant", 0, 1, []float64{0.8, 0.8, 0.8}},
		{"step:every=2", 0, 1, []float64{0.8, 0.8, 0.08, 0.08, 0.008}},
		{"step:every=1,gamma=0.5", 0, 1, []float64{0.8, 0.4, 0.2, 0.1, 0.05, 0.025}},
		// cos of 0, 60, 120 degrees: 1, 1/2, -1/2; and of 180 beyond the end.
		{"cosine", 3, 1, []float64{0.8, 0.6, 0.2, 0, 0}},
		{"cosine:final=0.1", 3, 1, []float64{0.8, 0.08 + 0.72*0.75, 0.08 + 0.72*0.25, 0.08}},
		{"linear", 4, 1, []float64{0.8, 0.6, 0.4, 0.2, 0, 0}},
		{"linear:final=0.5", 4, 1, []float64{0.8, 0.7, 0.6, 0.5, 0.4, 0.4}},
		{"invt", 0, 1, []float64{0.8, 0.4, 0.8 / 3, 0.2}},
		{"invt:decay=0.5", 0, 1, []float64{0.8, 0.8 / 1.5, 0.4}},
		{"constant:warmup=4", 0, 1, []float64{0.2, 0.4, 0.6, 0.8, 0.8}},
		// Two updates of warm-up leave three of five for the cosine.
		{"cosine:warmup=2", 5, 1, []float64{0.4, 0.8, 0.8, 0.6, 0.2, 0}},
		{"step:every=2,warmup=1", 0, 1, []float64{0.8, 0.8, 0.8, 0.08}},
		// 1024 is 4 times 256, 64 a quarter.
		{"constant:scale=linear", 0, 1024, []float64{3.2}},
		{"constant:scale=sqrt", 0, 1024, []float64{1.6}},
		{"constant:scale=linear", 0, 64, []float64{0.2}},
		{"constant:scale=sqrt", 0, 64, []float64{0.4}},
		{"linear:scale=linear,base=32,warmup=1", 5, 64, []float64{1.6, 1.6, 1.2, 0.8, 0.4, 0}},
		{"constant:scale=none", 0, 1024, []float64{0.8}},
	} {
		sc := schedule(t, c.s, 0.8, c.total, c.batch)
		for k, want := range c.want {
			if got := sc.Rate(k + 1); math.Abs(got-want) > 1e-15 {
				t.Errorf("%s of %d updates: rate %d is %v, want %v", c.s, c.total, k+1, got, want)
			}
		}
	}
}

func TestSchedulesRefuse(t *testing.T) {
	for _, c := range []struct {
		s            string
		base         float64
		total, batch int
		want         string
	}{
		{"cosin", 1, 10, 1, `did you mean "cosine"?`},
		{"cosine:0.1", 1, 10, 1, `"0.1" has no name`},
		{"cosine:finl=0.1", 1, 10, 1, `did you mean "final"?`},
		{"cosine", 1, 0, 1, "number of updates of the run must be known"},
		{"linear:warmup=10", 1, 10, 1, "warmup is 10, the run has 10 updates"},
		{"step", 1, 10, 1, "every is 0, expected the number of updates"},
		{"step:every=3,gamma=0", 1, 10, 1, "gamma is 0"},
		{"constant:warmup=-1", 1, 10, 1, "warmup is -1"},
		{"constant:warmup=1.5", 1, 10, 1, `warmup is "1.5", expected a whole number`},
		{"constant:scale=square", 1, 10, 1, "unknown scale"},
		{"constant:scale=linear,base=0", 1, 10, 1, "base is 0"},
		{"constant:scale=linear", 1, 10, 0, "batch is 0"},
		{"constant", -1, 10, 1, "the rate is -1"},
		{"constant", math.NaN(), 10, 1, "the rate is NaN"},
		{"constant", math.Inf(1), 10, 1, "the rate is +Inf"},
		{"invt:decay=-1", 1, 10, 1, "decay is -1"},
	} {
		_, err := NewSchedule(parse(t, c.s), c.base, c.total, c.batch)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.s, err, c.want)
		}
	}
	for _, c := range Schedules() {
		s := c.Name + ":warmup=3,scale=sqrt"
		if c.Name == "step" {
			s += ",every=5"
		}
		if sc := schedule(t, s, 1, 10, 256); c.Help == "" || sc.Rate(3) != 1 {
			t.Errorf("%s: help %q, rate %v at the end of the warm-up", c.Name, c.Help, sc.Rate(3))
		}
	}
}

func TestCosPi(t *testing.T) {
	worst := 0.0
	for i := range 1_000_001 {
		u := float64(i) / 1_000_000
		worst = max(worst, math.Abs(cosPi(u)-math.Cos(math.Pi*u)))
	}
	if worst > 1e-15 { // the doc comment's bound
		t.Errorf("off by up to %g", worst)
	}
	for u, want := range map[float64]float64{0: 1, 0.5: 0, 1: -1} {
		if got := cosPi(u); got != want {
			t.Errorf("cosPi(%v) is %v, want exactly %v", u, got, want)
		}
	}
}

func TestPower(t *testing.T) {
	for _, b := range []float64{0, 0.5, 0.9, 0.999, 0.99999994} {
		for _, n := range []int{0, 1, 2, 3, 7, 100, 12345, 1 << 20} {
			want := math.Pow(b, float64(n))
			if got := power(b, n); math.Abs(got-want) > 1e-12*want+1e-300 {
				t.Errorf("%v^%d is %v, want %v", b, n, got, want)
			}
		}
	}
}
