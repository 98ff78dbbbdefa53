package allreduce

import (
	"slices"

	"github.com/covey-ml/covey/model"
)

// Span is what a bucket holds: elements Lo to Hi of a frame, which is head and parameters, that many whole segments.
type Span struct {
	Name     string // of its first segment
	Lo, Hi   int
	Segments int
}

// Buckets cuts a frame over the layout into spans in the order in which they are reduced: whole segments, from the last one
// on, until a bucket has so many bytes; 0 is all at once. The head goes with the first segments, whose bucket is reduced
// last, when the loss is known.
func Buckets(layout model.Layout, bytes int) []Span {
	var all []Span
	b := Span{Hi: head + layout.Len()}
	for i, seg := range slices.Backward(layout) {
		b.Lo = head + seg.Off
		b.Segments++
		b.Name = seg.Name
		if i > 0 && bytes > 0 && 4*(b.Hi-b.Lo) >= bytes {
			all = append(all, b)
			b = Span{Hi: b.Lo}
		}
	}
	b.Lo = 0
	return append(all, b)
}
