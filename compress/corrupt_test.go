package compress

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// TestCorrupt: what is cut, longer or changed is refused or decodes to finite numbers; a *CorruptError says so.
func TestCorrupt(t *testing.T) {
	r := rng.New(3, "corrupt")
	for _, choice := range choices() {
		c := made(t, choice)
		for _, n := range []int{0, 1, 9, 600, 3001} {
			p, err := c.Encode(nil, bell(4, n), 5)
			if err != nil {
				t.Fatal(err)
			}
			try := func(what string, p []byte, must bool) {
				y, z := make([]float32, n), make([]float32, n)
				err := c.Decode(y, p)
				var corrupt *CorruptError
				if err != nil && !errors.As(err, &corrupt) || err == nil && (must || !vec.Finite(y) && choice != "identity") {
					t.Fatalf("%s, %d elements, %s: %v", choice, n, what, err)
				}
				if e := Add(c, z, p, 1, make([]float32, n)); (e == nil) != (err == nil) {
					t.Fatalf("%s, %d elements, %s: Decode says %v, Add says %v", choice, n, what, err, e)
				}
			}
			_, fixed := c.(Fixed)
			for cut := range min(len(p), 40) {
				try("cut", p[:cut], fixed)
				try("cut", p[:len(p)-1-cut], true)
			}
			try("one byte more", append(slices.Clone(p), 0), true)
			try("many more", append(slices.Clone(p), make([]byte, c.MaxLen(n)+1)...), true)
			for range 200 {
				if len(p) == 0 {
					break
				}
				q := slices.Clone(p)
				q[r.IntN(len(q))] ^= 1 << r.IntN(8)
				try("a bit changed", q, false)
				q[r.IntN(min(len(q), 12))] = byte(r.Uint32())
				try("two bytes changed", q, false)
			}
			for range 50 {
				q := slices.Clone(p)
				for i := range q {
					q[i] = byte(r.Uint32())
				}
				try("noise", q, false)
			}
		}
	}
}

// TestRefused: what no Encode writes is refused, each for its own reason.
func TestRefused(t *testing.T) {
	float := func(v float32) []byte { return slices.Clone(vec.Bytes([]float32{v})) }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, k := range []struct {
		choice string
		n      int
		p      []byte
		what   string
	}{
		{"uniform", 1, append(float(nan), 127), "the step NaN, expected one from 1.1754944e-38 to 2.6793884e+36"},
		{"uniform", 1, append(float(inf), 127), "the step +Inf"},
		{"uniform", 1, append(float(-1), 127), "the step -1"},
		{"uniform", 1, append(float(0), 127), "the step 0"},
		{"uniform", 1, append(float(3e36), 127), "the step 3e+36"},
		{"uniform", 1, append(float(1), 255), "a level above 127"},
		{"uniform:bits=16", 1, append(float(1), 0, 0x80), "a level below -32767"},
		{"uniform:bits=4", 1, append(float(1), 0x17), "bits are set behind the last element"},
		{"uniform:bits=4", 1, append(float(1), 0x0f), "a level above 7"},
		{"uniform:bits=3", 1, append(float(1), 0x04, 0), "bits are set behind the last element"},
		{"qsgd:levels=5", 1, append(float(1), 11), "a level above 5"},
		{"terngrad", 2, append(float(1), 0x0d), "a level above 1"},
		{"uniform:delta=1", 1, nil, "0 bytes"},
		{"uniform:delta=1", 1, []byte{1, 0}, "codes of 1 bits"},
		{"uniform:delta=1", 1, []byte{17, 0, 0}, "codes of 17 bits"},
		{"uniform:delta=1", 1, []byte{16, 255, 255}, "a level above 32767"},
		{"sign", 1, append(float(nan), 0), "the mean NaN"},
		{"sign", 1, append(float(-1), 0), "the mean -1"},
		{"sign", 1, append(float(1), 2), "bits are set behind the last element"},
		{"onebit", 1, append(append(float(1), float(1)...), 0), "the means 1 and 1"},
		{"onebit", 1, append(append(float(nan), float(-1)...), 0), "the means NaN and -1"},
		{"onebit", 1, append(append(float(1), float(-inf)...), 0), "the means 1 and -Inf"},
		{"natural", 1, []byte{255, 0}, "an exponent of 255"},
		{"natural", 1, []byte{4, 2}, "bits are set behind the last element"},
		{"fp16", 1, append(float(3), 0, 0), "the scale 3, expected a power of two"},
		{"fp16", 1, append(float(1), 0, 0x7c), "a number above the largest one"},
		{"fp16", 1, append(float(1), 0, 0x7e), "a number above the largest one"},
		{"fp16", 1, append(float(0x1p113), 0, 0x78), "a number above the largest one"},
		{"bf16", 1, []byte{0x80, 0x7f}, "an infinity or a NaN"},
		{"float", 1, append(float(0x1p124), 0), "the scale 2.1267648e+37, expected a power of two from 2^-126 to 2^123"},
		{"float", 1, append(float(-1), 0), "the scale -1"},
		{"float:exponent=2,mantissa=1", 1, append(float(1), 0x10), "bits are set behind the last element"},
		{"qsgd:levels=1,code=elias", 5, append(float(1), 0xff, 0xff), "a distance that leads out of the vector, or none"},
		{"qsgd:levels=1,code=elias", 5, append(float(1), 0x60), "no level from 1 to 1"},
		{"qsgd:levels=1,code=elias", 5, append(float(1), 0xb0, 0), "10 bits behind the end"},
	} {
		err := made(t, k.choice).Decode(make([]float32, k.n), k.p)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || !bytes.HasPrefix([]byte(corrupt.What), []byte(k.what)) || corrupt.N != k.n {
			t.Errorf("%s of %x: %v, want %s", k.choice, k.p, err, k.what)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for choice, want := range map[string]string{
		"unifrom":                     `unknown compressor "unifrom": did you mean "uniform"?`,
		"uniform:bits=9":              "uniform: bits is 9, expected 2 to 8, or 16",
		"uniform:bucket=12":           "uniform: bucket is 12 elements, expected a multiple of 8 such as 512, or 0 for the whole vector",
		"uniform:delta=0":             "uniform: delta is 0, expected a step between 2^-100 and 2^100 such as 0.001",
		"random:bits=8,delta=1":       "random: delta is the step itself, of all elements: bits and bucket go without it",
		"qsgd:levels=128":             "qsgd: levels is 128, expected 1 to 127",
		"qsgd:code=huffman":           `qsgd: unknown code "huffman" (packed, elias)`,
		"terngrad:clip=-1":            "terngrad: clip is -1 times the root mean square, expected a number from 0.1 to 100, such as 2.5 (a bucket goes by its name: bucket=512)",
		"float:exponent=7":            "float: exponent is 7 bits, expected 2 to 6 (with 1 the numbers are evenly spaced: see uniform)",
		"float:exponent=4,mantissa=4": "float: mantissa is 4 bits, expected 0 to 3: with the sign and 4 bits of exponent 8 in all",
		"natural:bits=9":              `natural: takes no parameter "bits"`,
	} {
		s, err := spec.Parse(choice)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := New(s); err == nil || err.Error() != want {
			t.Errorf("%s makes %v, %v; want %s", choice, c, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	all := choices()
	for i, choice := range all {
		for _, n := range []int{0, 1, 70, 600} {
			p, err := made(f, choice).Encode(nil, bell(2, n), 1)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), uint16(n), p)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, n uint16, p []byte) {
		choice := all[int(which)%len(all)]
		c := made(t, choice)
		x, y := make([]float32, n%5000), make([]float32, n%5000)
		err := c.Decode(x, p)
		if err == nil && choice != "identity" && !vec.Finite(x) {
			t.Fatalf("%s decodes to %v", choice, x)
		}
		if e := Add(c, y, p, 1, make([]float32, len(y))); (e == nil) != (err == nil) {
			t.Fatalf("%s: Decode says %v, Add says %v", choice, err, e)
		}
	})
}
