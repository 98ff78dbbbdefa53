package main

import (
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"strings"
	"testing"
)

// Each new pixel is a mean: its shares add up to 1, and a picture that keeps its size keeps its pixels.
func TestWeights(t *testing.T) {
	for n := 1; n <= 40; n++ {
		for m := 1; m <= 40; m++ {
			covered := make([]float64, n)
			for i, s := range weights(n, m) {
				sum := 0.0
				for k, f := range s.f {
					if f < -1e-12 {
						t.Errorf("%d to %d, pixel %d: share %v", n, m, i, f)
					}
					sum += f
					covered[s.at+k] += f
				}
				if math.Abs(sum-1) > 1e-9 {
					t.Errorf("%d to %d, pixel %d: shares add up to %v", n, m, i, sum)
				}
				if n == m && (s.at != i || len(s.f) != 1) {
					t.Errorf("%d to %d, pixel %d: %+v", n, m, i, s)
				}
			}
			for k, c := range covered {
				if n >= m && math.Abs(c-float64(m)/float64(n)) > 1e-9 {
					t.Errorf("%d to %d: old pixel %d counts %v, expected %v", n, m, k, c, float64(m)/float64(n))
				}
			}
		}
	}
}

// encoded makes a picture of w by h pixels and packs it.
func encoded(t *testing.T, w, h int, jpg bool, at func(x, y int) color.Color) string {
	t.Helper()
	img := image.NewNRGBA(image.Rect(3, 4, 3+w, 4+h)) // bounds need not begin at 0
	for y := range h {
		for x := range w {
			img.Set(3+x, 4+y, at(x, y))
		}
	}
	var b strings.Builder
	err := png.Encode(&b, img)
	if jpg {
		b.Reset()
		err = jpeg.Encode(&b, img, &jpeg.Options{Quality: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPicture(t *testing.T) {
	grey := func(x, y int) color.Color { return color.Gray{Y: uint8(10*y + x)} }
	for _, c := range []struct {
		name   string
		text   string
		h, w   int
		invert string
		want   []int
		within int
		notes  int
	}{
		{"as it is", encoded(t, 3, 2, false, grey), 2, 3, invertAuto, []int{0, 1, 2, 10, 11, 12}, 0, 0},
		{"jpeg", encoded(t, 8, 8, true, func(x, y int) color.Color { return color.Gray{Y: 40} }), 2, 2, invertAuto, []int{40, 40, 40, 40}, 1, 1},
		{"half the size", encoded(t, 4, 2, false, func(x, y int) color.Color { return color.Gray{Y: uint8(20*(x/2) + 4*y)} }), 1, 2, invertAuto, []int{2, 22}, 0, 1},
		{"twice the size", encoded(t, 2, 1, false, func(x, y int) color.Color { return color.Gray{Y: uint8(100 * x)} }), 2, 4, invertAuto, []int{0, 25, 75, 100, 0, 25, 75, 100}, 0, 1},
		{"other proportions", encoded(t, 3, 1, false, func(x, y int) color.Color { return color.Gray{Y: uint8(20 + 40*(x%2))} }), 3, 3, invertNo, []int{20, 20, 20, 20, 60, 20, 20, 20, 20}, 0, 1},
		{"light paper", encoded(t, 3, 3, false, func(x, y int) color.Color { return color.Gray{Y: uint8(250 - 250*(x%2)*(y%2))} }), 3, 3, invertAuto, []int{5, 5, 5, 5, 255, 5, 5, 5, 5}, 0, 1},
		{"light paper, left", encoded(t, 1, 1, false, func(x, y int) color.Color { return color.White }), 1, 1, invertNo, []int{255}, 0, 0},
		{"dark paper, inverted", encoded(t, 1, 1, false, func(x, y int) color.Color { return color.Gray{Y: 9} }), 1, 1, invertYes, []int{246}, 0, 0},
		{"transparent paper", encoded(t, 3, 3, false, func(x, y int) color.Color {
			return color.NRGBA{A: uint8(255 * (x % 2) * (y % 2))}
		}), 3, 3, invertAuto, []int{0, 0, 0, 0, 255, 0, 0, 0, 0}, 0, 1},
		{"colours", encoded(t, 1, 1, false, func(x, y int) color.Color { return color.NRGBA{R: 255, A: 255} }), 1, 1, invertAuto, []int{76}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !isPicture(c.text[:512%max(len(c.text), 1)]) && !isPicture(c.text) {
				t.Error("not known as a picture")
			}
			got, notes, err := picture(strings.NewReader(c.text), "p", c.h, c.w, c.invert)
			if err != nil {
				t.Fatal(err)
			}
			ok := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				ok = ok && int(got[i])-c.want[i] <= c.within && c.want[i]-int(got[i]) <= c.within
			}
			if !ok || len(notes) != c.notes {
				t.Errorf("%v, want %v; %d notes %q, want %d", got, c.want, len(notes), notes, c.notes)
			}
		})
	}
}

func TestPictureErrors(t *testing.T) {
	whole := encoded(t, 30, 30, false, func(x, y int) color.Color { return color.Gray{Y: uint8(x * y)} })
	for name, text := range map[string]string{"cut": whole[:len(whole)-20], "no picture": "\x89PNG\r\n\x1a\nrest"} {
		_, _, err := picture(strings.NewReader(text), "p.png", 28, 28, invertAuto)
		if exitCode(err) != exitData || !strings.HasPrefix(err.Error(), "p.png: is a damaged picture") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A header that promises far more than there is: refused before memory is taken. Width and height are at byte 16.
	huge := []byte(whole)
	copy(huge[16:], []byte{0, 1, 0, 0, 0, 1, 0, 0})
	if _, _, err := picture(strings.NewReader(string(huge)), "p.png", 28, 28, invertAuto); exitCode(err) != exitData {
		t.Errorf("65536 x 65536 pixels: %v", err)
	}
}

func TestNumbers(t *testing.T) {
	got, err := numbers("[0, 1,2\t255]\r\n\n7 8;9 10\n", "n", 4)
	if err != nil || string(got) != "\x00\x01\x02\xff\x07\x08\x09\x0a" {
		t.Errorf("%v %v", got, err)
	}
	for text, want := range map[string]string{
		"":          "n: holds 0 numbers, expected 4 for each sample",
		"1 2 3 4 5": "n: holds 5 numbers, expected 4 for each sample",
		"1 2\n256":  `n, line 2: "256" is no pixel`,
		"1 -2":      `n, line 1: "-2" is no pixel`,
		"0.5":       `n, line 1: "0.5" is no pixel`,
	} {
		if _, err := numbers(text, "n", 4); exitCode(err) != exitData || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
