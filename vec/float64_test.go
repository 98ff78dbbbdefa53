package vec

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// ulps64 is the distance of got from want in units of want's last place.
func ulps64(got, want float64) float64 {
	if got == want {
		return 0
	}
	_, e := math.Frexp(want)
	return math.Abs(got-want) / math.Ldexp(1, e-53)
}

func TestExp64(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	worst := 0.0
	for range 300000 {
		x := (r.Float64() - 0.5) * math.Ldexp(1, r.IntN(30)-19)
		if x < -708 || x > 709 {
			continue
		}
		worst = max(worst, ulps64(Exp64(x), math.Exp(x)))
	}
	t.Logf("within %.2f ulp of math.Exp, which is within 1", worst)
	if worst > 2 {
		t.Errorf("seed %d: %.2f ulp from math.Exp", seed, worst)
	}
	for x, want := range map[float64]float64{0: 1, -709: 0, math.Inf(-1): 0, 710: math.Inf(1), math.Inf(1): math.Inf(1)} {
		if got := Exp64(x); got != want {
			t.Errorf("Exp64(%v) is %v, want %v", x, got, want)
		}
	}
	if got := Exp64(math.NaN()); got == got {
		t.Errorf("Exp64(NaN) is %v", got)
	}
}

func TestLog64(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	worst := 0.0
	for range 300000 {
		x := math.Ldexp(1+r.Float64(), r.IntN(60)-30)
		if r.IntN(2) == 0 {
			x = 1 + (r.Float64()-0.5)/math.Ldexp(1, r.IntN(30))
		}
		worst = max(worst, ulps64(Log64(x), math.Log(x)))
	}
	t.Logf("within %.2f ulp of math.Log, which is within 1", worst)
	if worst > 3 {
		t.Errorf("seed %d: %.2f ulp from math.Log", seed, worst)
	}
}

func TestSoftmaxLoss64(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	const n, k = 50, 4
	z, class := make([]float64, n*k), make([]int32, n)
	for i := range z {
		z[i] = r.NormFloat64() * 5
	}
	for i := range class {
		class[i] = int32(r.IntN(k))
	}
	g, p := make([]float64, n*k), make([]float64, n*k)
	got := SoftmaxLoss64(g, p, z, class, k)
	want := new(big.Float).SetPrec(200)
	for i := range n {
		var all float64
		for c := range k {
			all += math.Exp(z[i*k+c])
		}
		want.Add(want, big.NewFloat(math.Log(all)-z[i*k+int(class[i])]))
		var sum, slopes float64
		for c := range k {
			sum += p[i*k+c]
			slopes += g[i*k+c]
		}
		if math.Abs(sum-1) > 1e-14 || math.Abs(slopes) > 1e-14 {
			t.Fatalf("seed %d: probabilities sum to %v, slopes to %v", seed, sum, slopes)
		}
	}
	if w, _ := want.Float64(); math.Abs(got-w) > 1e-12*w {
		t.Errorf("seed %d: loss %v, want %v", seed, got, w)
	}
	u, room := make([]float64, n*k), make([]float64, k)
	for i := range u {
		u[i] = r.NormFloat64()
	}
	at := func(t float64) (sum, slope, bend float64) { return SoftmaxLine64(z, u, t, class, k, room) }
	const t0, gap = 0.3, 1e-4
	sum, slope, bend := at(t0)
	up, upSlope, _ := at(t0 + gap)
	down, downSlope, _ := at(t0 - gap)
	if d := (up - down) / (2 * gap); math.Abs(d-slope) > 1e-5*(1+math.Abs(slope)) {
		t.Errorf("seed %d: slope %v, by difference %v", seed, slope, d)
	}
	if d := (upSlope - downSlope) / (2 * gap); math.Abs(d-bend) > 1e-5*(1+bend) {
		t.Errorf("seed %d: second derivative %v, by difference %v", seed, bend, d)
	}
	if start, _, _ := at(0); math.Abs(start-got) > 1e-12*got || sum == start {
		t.Errorf("seed %d: the line begins at %v, not %v", seed, start, got)
	}
	const step = 1e-6
	for i := range z {
		v := z[i]
		z[i] = v + step
		up := SoftmaxLoss64(make([]float64, n*k), make([]float64, n*k), z, class, k)
		z[i] = v - step
		down := SoftmaxLoss64(make([]float64, n*k), make([]float64, n*k), z, class, k)
		z[i] = v
		if d := (up - down) / (2 * step); math.Abs(d-g[i]) > 1e-7 {
			t.Fatalf("seed %d: slope %d is %v, by difference %v", seed, i, g[i], d)
		}
	}
}

// The bits, for every processor.
func TestFloat64Golden(t *testing.T) {
	var bits uint64
	for i := range 1000 {
		x := float64(i-500) / 37
		bits = bits*31 + math.Float64bits(Exp64(x))
		bits = bits*31 + math.Float64bits(Log64(math.Abs(x)+0.01))
	}
	if bits != golden64 {
		t.Errorf("the bits are %#x, on other processors %#x", bits, uint64(golden64))
	}
}

const golden64 = 0x16cad2be523b2a2d
