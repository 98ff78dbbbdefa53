package profile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
)

func build(t *testing.T, name string, tokens int) *Profile {
	t.Helper()
	p, err := New(name, tokens)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPublished holds the built-in profiles to what is published of the networks: parameters exactly, as the released
// weights have them, and multiplications to the digits that are given.
func TestPublished(t *testing.T) {
	for _, c := range []struct {
		name   string
		tokens int
		params int
		gmacs  float64 // forward, a sample
		within float64
	}{
		{"vgg16", 0, 138_357_544, 15.5, 0.05},         // arXiv 1409.1556, table 2: 138 million; torchvision: 138357544, 15.47 GMAC
		{"resnet50", 0, 25_557_032, 4.1, 0.05},        // torchvision: 25557032, 4.09 GMAC
		{"resnet101", 0, 44_549_160, 7.8, 0.05},       // torchvision: 44549160, 7.80 GMAC
		{"inceptionv3", 0, 23_834_568, 5.71, 0.03},    // torchvision: 27161264, of which its auxiliary head has 3326696; 5.71 GMAC
		{"bert-base", 128, 109_482_240, 11.2, 0.15},   // arXiv 1909.10351, table 1: 22.5 GFLOPs with 128 tokens; released: 109482240
		{"gpt2-small", 1024, 124_439_808, 145.8, 0.5}, // released: 124439808; TestGPT2 has the count
	} {
		p := build(t, c.name, c.tokens)
		if got := p.Layout().Len(); got != c.params {
			t.Errorf("%s: %d parameters, published are %d", c.name, got, c.params)
		}
		if got := float64(p.Forward(1)) / 2e9; math.Abs(got-c.gmacs) > c.within {
			t.Errorf("%s: %.2f GMAC forward, published are %g", c.name, got, c.gmacs)
		}
	}
}

// TestGPT2 holds its products to the count of Kaplan et al. (arXiv 2001.08361, section 2.1): forward 2N + 2 layers tokens
// width FLOPs a token, N without embeddings, and here the last product besides.
func TestGPT2(t *testing.T) {
	const layers, width, words = 12, 768, 50257
	for _, tokens := range []int64{1, 100, 1024} {
		p := build(t, "gpt2-small", int(tokens))
		weights := int64(12 * layers * width * width)
		// Queries times keys, and weights times values, are two products each: the paper counts half, what a mask leaves.
		want := tokens * (2*weights + 4*layers*tokens*width + 2*width*words)
		if got := p.Forward(1); got != want {
			t.Errorf("%d tokens: %d FLOPs, expected %d", tokens, got, want)
		}
	}
}

// TestCosts: what the parts cost adds up, the way back takes twice the way forward but for what the first layer need not do,
// and all grows with the samples.
func TestCosts(t *testing.T) {
	for _, name := range Names() {
		p := build(t, name, 0)
		layout := p.Layout()
		sum, at := p.Forward(1), 0
		for i, s := range layout {
			if s.Off != at || s.Len == 0 {
				t.Fatalf("%s: segment %q at %d has %d elements, expected at %d", name, s.Name, s.Off, s.Len, at)
			}
			at += s.Len
			sum += p.Backward(1, i)
		}
		if got := p.FLOPs(1); got != sum {
			t.Errorf("%s: %d FLOPs, its parts have %d", name, got, sum)
		}
		spared := p.Backward(1, 0) // the first layer's other product
		if got := p.FLOPs(1) + spared; got != 3*p.Forward(1) {
			t.Errorf("%s: %d FLOPs and %d spared, expected three times %d", name, p.FLOPs(1), spared, p.Forward(1))
		}
		if p.FLOPs(7) != 7*p.FLOPs(1) || p.Forward(7) != 7*p.Forward(1) || p.Backward(7, 1) != 7*p.Backward(1, 1) {
			t.Errorf("%s: costs do not grow with the samples", name)
		}
	}
}

// TestVGGShape: the first fully connected layer has three quarters of the parameters, convolutions nearly all operations,
// so the largest gradient is there when nearly all of the way back is to come.
func TestVGGShape(t *testing.T) {
	p := build(t, "vgg16", 0)
	i := slices.IndexFunc(p.layout, func(s model.Segment) bool { return s.Name == "fc6.weight" })
	if got := p.layout[i].Len; got != 4096*25088 {
		t.Errorf("fc6 has %d parameters", got)
	}
	done := int64(0)
	for k := len(p.layout) - 1; k >= i; k-- {
		done += p.back[k]
	}
	if share := float64(done) / float64(p.FLOPs(1)-p.Forward(1)); share > 0.01 {
		t.Errorf("%.3f of the way back is done when fc6 is final, expected less than 0.01", share)
	}
	names := map[string]bool{}
	for _, s := range p.layout {
		if names[s.Name] {
			t.Errorf("%s stands twice", s.Name)
		}
		names[s.Name] = true
	}
}

// TestSequence: BERT's products grow with the tokens, and attention with their square; parameters do not.
func TestSequence(t *testing.T) {
	short, long := build(t, "bert-base", 128), build(t, "bert-base", 256)
	if short.Layout().Len() != long.Layout().Len() {
		t.Error("parameters depend on the tokens")
	}
	pooler := int64(2 * 768 * 768)
	quadratic := func(n int64) int64 { return 12 * 4 * n * n * 768 }
	if got, want := long.Forward(1), 2*(short.Forward(1)-pooler-quadratic(128))+pooler+quadratic(256); got != want {
		t.Errorf("%d FLOPs for twice the tokens, expected %d", got, want)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		tokens int
		want   string
	}{
		{"resnet5", 0, `unknown profile "resnet5": did you mean "resnet50"? (vgg16, resnet50, resnet101, inceptionv3, bert-base, gpt2-small), or a file such as mine.yaml`},
		{"vgg16", 12, "profile vgg16: its samples are images, and have no sequence"},
		{"bert-base", 513, "profile bert-base: a sequence of 513 tokens: expected 1 to 512"},
		{"bert-base", -1, "profile bert-base: a sequence of -1 tokens: expected 1 to 512"},
	} {
		if _, err := New(c.name, c.tokens); err == nil || err.Error() != c.want {
			t.Errorf("%s, %d:\n\t%v, expected\n\t%s", c.name, c.tokens, err, c.want)
		}
	}
	p := build(t, "vgg16", 0)
	_, grad := p.Grad(context.Background(), nil, nil, &data.Batch{}, nil)
	_, eval := p.Eval(context.Background(), nil, &data.Batch{})
	for _, err := range []error{grad, eval} {
		if !errors.Is(err, ErrNoNumbers) || !strings.Contains(err.Error(), "profile:vgg16") || !strings.Contains(err.Error(), "covey sim --timing") {
			t.Errorf("%v", err)
		}
	}
}

const small = `name: small
segments:
  - {name: conv, shape: [4, 3, 3, 3], forward: 1e6}
  - name: fc
    parameters: 500
    forward: 1000
    backward: 1500
`

func TestParse(t *testing.T) {
	p, err := Parse("small.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p, p.Layout(), p.Forward(1), p.Backward(1, 0), p.Backward(1, 1), p.FLOPs(2)); got !=
		"small [{conv [4 3 3 3] 0 108 0} {fc [500] 108 500 0}] 1001000 2000000 1500 6005000" {
		t.Error(got)
	}
	name := filepath.Join(t.TempDir(), "small.yaml")
	if err := os.WriteFile(name, []byte(small), 0o666); err != nil {
		t.Fatal(err)
	}
	if q, err := Load(name); err != nil || q.FLOPs(1) != p.FLOPs(1) {
		t.Errorf("%v, %v", q, err)
	}
	if _, err := Load(strings.Replace(name, "small", "smal", 1)); err == nil || !strings.Contains(err.Error(), "did you mean "+name) {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "x: no segments: expected a list of {name, parameters or shape, forward}"},
		{"segments:\n- {name: a, parameters: 3, foward: 1}\n", `x:2: unknown key "foward": did you mean "forward"? (name, segments, parameters, shape, forward, backward)`},
		{"segments:\n- {name: a, parameters: 3, forward: -1}\n", `x: segment 1 ("a"): forward: -1 FLOPs a sample: expected 0 to 1e+16`},
		{"segments:\n- {name: a, parameters: 3, backward: .nan}\n", `x: segment 1 ("a"): backward: NaN FLOPs a sample: expected 0 to 1e+16`},
		{"segments:\n- {name: a, parameters: 0}\n", `x: segment 1 ("a"): expected either parameters or a shape`},
		{"segments:\n- {name: a, parameters: 3, shape: [3]}\n", `x: segment 1 ("a"): expected either parameters or a shape`},
		{"segments:\n- {name: a, shape: [-3]}\n", `x: segment 1 ("a"): -3: expected 1 to 4294967296 parameters`},
		{"segments:\n- {name: a, shape: [65536, 65536, 2]}\n", `x: segment 1 ("a"): 2: expected 1 to 4294967296 parameters`},
		{"segments:\n- {name: a, parameters: 4294967296}\n- {name: b, parameters: 1}\n", `x: segment 2 ("b"): over 4294967296 parameters in all`},
		{"segments:\n- {name: a, parameters: 3, forward: 4e15}\n", `x: segment 1 ("a"): over 1e+16 FLOPs a sample in all`},
		{"segments:\n- {name: a, parameters: 1}\n- {name: a, parameters: 1}\n", `x: segment 2 ("a"): the name stands twice`},
		{"segments:\n- {parameters: 1}\n", `x: segment 1 (""): has no name`},
		{"name: " + strings.Repeat("[", 17), "x:1: nested more than 16 deep"},
		{"\xff", "x: not a profile: not text in UTF-8"},
		{strings.Repeat("#", maxFile+1), "x: not a profile: over 1048576 bytes"},
	} {
		if _, err := Parse("x", []byte(c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%.60q:\n\t%v, expected\n\t%s", c.text, err, c.want)
		}
	}
}

// FuzzParse: whatever is read keeps the bounds, and nothing else is.
func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("segments: [{name: a, shape: [1, 2], forward: 3}]"))
	f.Add([]byte("segments: &a\n- <<: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("x", text)
		if err != nil {
			return
		}
		if n := p.Layout().Len(); n < 1 || n > maxParameters || len(p.back) != len(p.layout) || p.Forward(1) < 0 || p.FLOPs(1) < p.Forward(1) {
			t.Errorf("%d parameters, %d FLOPs, %d of them forward", n, p.FLOPs(1), p.Forward(1))
		}
	})
}

func ExampleNew() {
	p, _ := New("vgg16", 0)
	fc := p.Layout()[26]
	fmt.Printf("%d parameters, %.1f GFLOPs forward\n", p.Layout().Len(), float64(p.Forward(1))/1e9)
	fmt.Printf("%s has %d of them\n", fc.Name, fc.Len)
	// Output:
	// 138357544 parameters, 30.9 GFLOPs forward
	// fc6.weight has 102760448 of them
}
