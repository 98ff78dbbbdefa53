package data

import (
	"bytes"
	"context"
	"image/color"
	"image/png"
	"io"
)

var pngMagic = []byte("\x89PNG\r\n\x1a\n")

// readPNG reads one picture as one sample of image data without a label. Colours become grey. Its size is checked before
// it is unpacked.
func readPNG(ctx context.Context, name string, src source, o Options) (*images, error) {
	s := o.Like
	if s == nil || s.Format != "idx" || len(s.Shape) != 2 {
		return nil, bad(src.name, "is one picture: that can be given to a model of grey images, but is no data to train on")
	}
	in, err := src.read(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	p, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	c, err := png.DecodeConfig(bytes.NewReader(p))
	if err != nil {
		return nil, &Error{File: src.name, What: "is no picture in PNG", Err: err}
	}
	if c.Height != s.Shape[0] || c.Width != s.Shape[1] {
		return nil, bad(src.name, "is a picture of %d rows of %d pixels, expected %d of %d as in the training data", c.Height, c.Width, s.Shape[0], s.Shape[1])
	}
	img, err := png.Decode(bytes.NewReader(p))
	if err != nil {
		return nil, &Error{File: src.name, What: "is no whole picture in PNG", Err: err}
	}
	pix := make([]byte, 0, s.Dim)
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			pix = append(pix, color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y)
		}
	}
	return newImages(s.Info(name), s, src.name, pix, nil), nil
}
