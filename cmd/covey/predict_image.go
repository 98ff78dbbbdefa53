package main

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // what a picture may be
	_ "image/png"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/covey-ml/covey/data"
)

// A model of images learned from IDX files: bytes, 0 for paper and 255 for ink. Pictures and plain numbers are brought
// to that form, written as IDX in memory and then read as any other data.

const (
	maxPicture = 64 << 20 // pixels
	maxNumbers = 1 << 28  // bytes of plain numbers
)

// How a picture's light and dark are meant.
const (
	invertAuto = "auto" // dark on light when the border is light
	invertYes  = "yes"
	invertNo   = "no"
)

// isPicture tells whether data begins as PNG or JPEG does.
func isPicture(start string) bool {
	return strings.HasPrefix(start, "\x89PNG\r\n\x1a\n") || strings.HasPrefix(start, "\xff\xd8\xff")
}

// picture reads a PNG or JPEG picture and brings it to h rows of w pixels. notes say in words what was done to it.
func picture(r io.ReadSeeker, name string, h, w int, invert string) (pixels []byte, notes []string, err error) {
	bad := func(err error) error { return &data.Error{File: name, What: "is a damaged picture", Err: err} }
	c, _, err := image.DecodeConfig(r)
	if err != nil {
		return nil, nil, bad(err)
	}
	if c.Width < 1 || c.Height < 1 || c.Width > maxPicture/c.Height {
		return nil, nil, &data.Error{File: name, What: fmt.Sprintf("is a picture of %d x %d pixels, expected at most %s in all", c.Width, c.Height, thousands(maxPicture))}
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, nil, bad(err)
	}
	img, _, err := image.Decode(r)
	if err != nil {
		return nil, nil, bad(err)
	}
	g := grey(img)
	paper := g.border()
	if g.h != h || g.w != w {
		notes = append(notes, fmt.Sprintf("the picture of %d x %d pixels was brought to %d x %d", g.w, g.h, w, h))
		g = g.padded(h, w, paper).resized(h, w)
	}
	switch {
	case invert == invertYes:
		g.invert()
	case invert == invertAuto && paper > 127:
		notes = append(notes, "its border is light, so it was taken for dark ink on light paper and inverted (--invert no leaves it as it is)")
		g.invert()
	}
	pixels = make([]byte, len(g.v))
	for i, v := range g.v {
		pixels[i] = byte(min(max(v, 0), 255) + 0.5)
	}
	return pixels, notes, nil
}

// greys is a picture in 0 (black) to 255 (white), row by row.
type greys struct {
	h, w int
	v    []float64
}

// grey takes the luma of each pixel (ITU-R BT.601, as package image/color has it). What is transparent is white paper.
func grey(img image.Image) *greys {
	r := img.Bounds()
	g := &greys{h: r.Dy(), w: r.Dx(), v: make([]float64, 0, r.Dx()*r.Dy())}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := img.At(x, y)
			_, _, _, alpha := c.RGBA()
			luma := color.Gray16Model.Convert(c).(color.Gray16).Y // of the colour times its alpha
			g.v = append(g.v, (float64(luma)+float64(0xffff-alpha))/257)
		}
	}
	return g
}

// border is the median of the outermost pixels: the paper.
func (g *greys) border() float64 {
	var b []float64
	for x := range g.w {
		b = append(b, g.v[x], g.v[(g.h-1)*g.w+x])
	}
	for y := range g.h {
		b = append(b, g.v[y*g.w], g.v[y*g.w+g.w-1])
	}
	slices.Sort(b)
	return b[len(b)/2]
}

func (g *greys) invert() {
	for i, v := range g.v {
		g.v[i] = 255 - v
	}
}

// padded adds paper on two sides, so that the picture gets the proportions of h rows and w columns.
func (g *greys) padded(h, w int, paper float64) *greys {
	p := &greys{h: max(g.h, (g.w*h+w-1)/w), w: max(g.w, (g.h*w+h-1)/h)}
	p.v = slices.Repeat([]float64{paper}, p.h*p.w)
	top, left := (p.h-g.h)/2, (p.w-g.w)/2
	for y := range g.h {
		copy(p.v[(top+y)*p.w+left:], g.v[y*g.w:(y+1)*g.w])
	}
	return p
}

// resized brings the picture to h rows of w pixels: each is the mean of the area that it covers, or, when the picture
// grows, lies on the line between its neighbours.
func (g *greys) resized(h, w int) *greys {
	rows := weights(g.h, h)
	cols := weights(g.w, w)
	half := make([]float64, g.h*w)
	for y := range g.h {
		for x, c := range cols {
			for k, f := range c.f {
				half[y*w+x] += f * g.v[y*g.w+c.at+k]
			}
		}
	}
	out := &greys{h: h, w: w, v: make([]float64, h*w)}
	for y, r := range rows {
		for k, f := range r.f {
			for x := range w {
				out.v[y*w+x] += f * half[(r.at+k)*w+x]
			}
		}
	}
	return out
}

// share is what one new pixel takes: f[k] of old pixel at+k.
type share struct {
	at int
	f  []float64
}

// weights says what each of m new pixels takes of n old ones, along one side.
func weights(n, m int) []share {
	out := make([]share, m)
	step := float64(n) / float64(m)
	for i := range out {
		lo, hi := float64(i)*step, float64(i+1)*step
		if n < m { // a line through the centres of the two nearest
			c := min(max((lo+hi)/2-0.5, 0), float64(n-1))
			at := min(int(c), max(n-2, 0))
			out[i] = share{at, []float64{1 - (c - float64(at)), c - float64(at)}[:min(n, 2)]}
			continue
		}
		s := share{at: int(lo)}
		for k := s.at; k < n && float64(k) < hi-1e-9; k++ {
			s.f = append(s.f, (min(hi, float64(k+1))-max(lo, float64(k)))/step)
		}
		out[i] = s
	}
	return out
}

// numbers reads samples of dim whole numbers from 0 to 255, separated by commas or blanks.
func numbers(text, name string, dim int) ([]byte, error) {
	var out []byte
	for n, line := range strings.Split(text, "\n") {
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(", \t\r;[]", r) }) {
			v, err := strconv.ParseUint(word, 10, 8)
			if err != nil {
				return nil, &data.Error{File: name, Line: n + 1,
					What: fmt.Sprintf("%.40q is no pixel: expected an IDX file, a PNG or JPEG picture, or whole numbers from 0 (paper) to 255 (ink), %s for each sample", word, thousands(dim))}
			}
			out = append(out, byte(v))
		}
	}
	if len(out) == 0 || len(out)%dim != 0 {
		return nil, &data.Error{File: name, What: fmt.Sprintf("holds %s, expected %s for each sample", count(len(out), "number"), thousands(dim))}
	}
	return out, nil
}

// asIDX is the IDX file of samples of this shape.
func asIDX(shape []int, pixels []byte) string {
	dim := 1
	for _, n := range shape {
		dim *= n
	}
	head := []byte{0, 0, 8, byte(1 + len(shape))}
	head = binary.BigEndian.AppendUint32(head, uint32(len(pixels)/dim))
	for _, n := range shape {
		head = binary.BigEndian.AppendUint32(head, uint32(n))
	}
	return string(head) + string(pixels)
}
