package digits

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"testing"

	"github.com/covey-ml/covey/rng"
)

func draw(seed, first uint64, n int) (pix []byte, label []int) {
	var r Renderer
	pix, label = make([]byte, n*Pixels), make([]int, n)
	for i := range n {
		label[i] = r.Draw(pix[i*Pixels:(i+1)*Pixels], seed, first+uint64(i))
	}
	return pix, label
}

// The images are part of the determinism contract: every platform must draw these.
func TestSameBitsEverywhere(t *testing.T) {
	h := sha256.New()
	for _, first := range []uint64{0, Test} {
		pix, label := draw(1, first, 500)
		h.Write(pix)
		for _, l := range label {
			h.Write([]byte{byte(l)})
		}
	}
	const want = "97e4313e33b9c3cf06af65f295ed288f2b1da5780c473f6f5c7030270d6cc8ec"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the first 500 training and test images of seed 1 hash to %s, expected %s: did the drawing change, or does this platform round otherwise?", got, want)
	}
}

func TestImageDependsOnSeedAndNumberAlone(t *testing.T) {
	pix, label := draw(7, 0, 40)
	var r Renderer
	one := make([]byte, Pixels)
	for _, i := range []int{39, 3, 17, 0} {
		if l := r.Draw(one, 7, uint64(i)); l != label[i] || string(one) != string(pix[i*Pixels:(i+1)*Pixels]) {
			t.Errorf("image %d drawn by itself differs from the one drawn in order", i)
		}
	}
	other, _ := draw(8, 0, 40)
	same := 0
	for i := range 40 {
		if string(pix[i*Pixels:(i+1)*Pixels]) == string(other[i*Pixels:(i+1)*Pixels]) {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d of 40 images are equal under seeds 7 and 8", same)
	}
}

func TestClassesAreBalancedAndOrderVaries(t *testing.T) {
	orders := map[[10]int]bool{}
	for run := range 50 {
		var order [10]int
		seen := map[int]bool{}
		for k := range 10 {
			order[k] = Label(1, uint64(10*run+k))
			seen[order[k]] = true
		}
		if len(seen) != 10 {
			t.Fatalf("images %d to %d hold the digits %v, expected each once", 10*run, 10*run+9, order)
		}
		orders[order] = true
	}
	if len(orders) < 45 {
		t.Errorf("50 runs of ten came in only %d orders", len(orders))
	}
}

func TestTrainingAndTestImagesAreDisjoint(t *testing.T) {
	seen := map[string]int{}
	pix, _ := draw(1, 0, 2000)
	for i := range 2000 {
		p := string(pix[i*Pixels : (i+1)*Pixels])
		if k, twice := seen[p]; twice {
			t.Errorf("training images %d and %d are equal", k, i)
		}
		seen[p] = i
	}
	pix, _ = draw(1, Test, 1000)
	for i := range 1000 {
		if k, twice := seen[string(pix[i*Pixels:(i+1)*Pixels])]; twice {
			t.Errorf("test image %d equals training image %d", i, k)
		}
	}
}

func TestInkIsOnThePaper(t *testing.T) {
	pix, _ := draw(3, 0, 1000)
	for i := range 1000 {
		ink, border := 0, 0
		for k, p := range pix[i*Pixels : (i+1)*Pixels] {
			x, y := k%Side, k/Side
			if p > 0 {
				ink++
				if x == 0 || y == 0 || x == Side-1 || y == Side-1 {
					border++
				}
			}
		}
		if ink < 25 || ink > Pixels/2 {
			t.Errorf("image %d has ink on %d pixels", i, ink)
		}
		if border > 20 {
			t.Errorf("image %d leaves the paper: %d inked pixels on the border", i, border)
		}
	}
}

func TestSinCos(t *testing.T) {
	for x := float32(-0.5); x <= 0.5; x += 1.0 / 128 {
		s, c := sincos(x)
		if math.Abs(float64(s)-math.Sin(float64(x))) > 1e-6 || math.Abs(float64(c)-math.Cos(float64(x))) > 1e-6 {
			t.Errorf("sincos(%v) = %v, %v", x, s, c)
		}
	}
}

func TestDrawAllocatesNothing(t *testing.T) {
	var r Renderer
	dst := make([]byte, Pixels)
	i := uint64(0)
	for range 200 {
		r.Draw(dst, 1, i) // the longest path is met
		i++
	}
	if n := testing.AllocsPerRun(100, func() { r.Draw(dst, 1, i); i++ }); n > 2 {
		t.Errorf("Draw allocates %v times, expected only the generator of its label", n)
	}
}

// The set must tell models apart: a linear classifier stays below 95 %, the default network passes 97 %.
func TestDifficulty(t *testing.T) {
	if testing.Short() {
		t.Skip("trains two models, some seconds")
	}
	train, label := draw(1, 0, 12000)
	test, want := draw(1, Test, 2000)
	if linear := fit(train, label, test, want, 0, 20); linear < 0.85 || linear >= 0.95 {
		t.Errorf("a linear classifier reaches %.4f on the test images, expected 0.85 to 0.95", linear)
	}
	if network := fit(train, label, test, want, 128, 10); network < 0.97 {
		t.Errorf("a network with 128 hidden units reaches %.4f on the test images after 10 epochs, expected at least 0.97", network)
	}
}

// fit trains a softmax classifier with one hidden layer of ReLUs, or none, by Adam at 0.001 with batches of 256, and
// returns its accuracy on the test images. It is plain on purpose: the packages that train models build on this one.
func fit(train []byte, label []int, test []byte, want []int, hidden, epochs int) float64 {
	const batch = 256
	h := max(hidden, 10)
	var w1, w2 adam // w1 is Pixels+1 rows of h, the last one the bias; w2 is h+1 rows of 10
	r := rng.New(1, "digits/test")
	w1.init(Pixels+1, h, func() float32 { return (2*r.Float32() - 1) / 28 })
	if hidden > 0 {
		w2.init(h+1, 10, func() float32 { return (2*r.Float32() - 1) / 11 })
	}
	z, out, back := make([]float32, h), make([]float32, 10), make([]float32, h)
	forward := func(p []byte) []float32 {
		copy(z, w1.x[Pixels*h:])
		for k, v := range p {
			if v > 0 {
				axpy(float32(v)/255, w1.x[k*h:(k+1)*h], z)
			}
		}
		if hidden == 0 {
			return z
		}
		copy(out, w2.x[h*10:])
		for k := range z {
			if z[k] = max(z[k], 0); z[k] > 0 {
				axpy(z[k], w2.x[k*10:(k+1)*10], out)
			}
		}
		return out
	}
	for range epochs {
		order := r.Perm(len(label))
		for len(order) > 0 {
			n := min(batch, len(order))
			for _, i := range order[:n] {
				p := train[i*Pixels : (i+1)*Pixels]
				e := softmax(forward(p))
				e[label[i]]--
				if hidden > 0 {
					axpy(1, e, w2.g[h*10:])
					for k := range z {
						back[k] = 0
						if z[k] > 0 {
							axpy(z[k], e, w2.g[k*10:(k+1)*10])
							for c, v := range e {
								back[k] += v * w2.x[k*10+c]
							}
						}
					}
					e = back
				}
				axpy(1, e, w1.g[Pixels*h:])
				for k, v := range p {
					if v > 0 {
						axpy(float32(v)/255, e, w1.g[k*h:(k+1)*h])
					}
				}
			}
			w1.step(float32(n))
			w2.step(float32(n))
			order = order[n:]
		}
	}
	right := 0
	for i, l := range want {
		best := 0
		o := forward(test[i*Pixels : (i+1)*Pixels])
		for c := range o {
			if o[c] > o[best] {
				best = c
			}
		}
		if best == l {
			right++
		}
	}
	return float64(right) / float64(len(want))
}

func axpy(a float32, x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += a * v
	}
}

// softmax overwrites o with its softmax.
func softmax(o []float32) []float32 {
	top, sum := o[0], float32(0)
	for _, v := range o {
		top = max(top, v)
	}
	for i, v := range o {
		o[i] = float32(math.Exp(float64(v - top)))
		sum += o[i]
	}
	for i := range o {
		o[i] /= sum
	}
	return o
}

type adam struct {
	x, g, m, v []float32
	t          float64
}

func (a *adam) init(rows, cols int, draw func() float32) {
	n := rows * cols
	a.x, a.g, a.m, a.v = make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range a.x {
		a.x[i] = draw()
	}
}

// step applies the mean of the summed gradients of n samples and clears them.
func (a *adam) step(n float32) {
	a.t++
	rate := float32(0.001 * math.Sqrt(1-math.Pow(0.999, a.t)) / (1 - math.Pow(0.9, a.t)))
	for i, g := range a.g {
		g /= n
		a.m[i] += 0.1 * (g - a.m[i])
		a.v[i] += 0.001 * (g*g - a.v[i])
		a.x[i] -= rate * a.m[i] / (float32(math.Sqrt(float64(a.v[i]))) + 1e-8)
		a.g[i] = 0
	}
}

func BenchmarkDraw(b *testing.B) {
	var r Renderer
	dst := make([]byte, Pixels)
	for i := range b.N {
		r.Draw(dst, 1, uint64(i))
	}
}
