package local

import "github.com/covey-ml/covey/model"

// Span is what a fragment holds: elements Lo to Hi of the parameters.
type Span struct {
	Name   string // of its first segment
	Lo, Hi int
}

// Spans cuts the parameters of a layout into n fragments, or fewer when it has not so many segments: runs of whole segments,
// each as near as whole segments allow to its even share of the elements. (The paper's are of a transformer's layers; ours
// are of neighbouring segments of any model.)
func Spans(layout model.Layout, n int) []Span {
	var all []Span
	var next Span
	for i, seg := range layout {
		if next.Hi == next.Lo {
			next.Name = seg.Name
		}
		next.Hi = seg.Off + seg.Len
		share := layout.Len() * (len(all) + 1) / n
		if i == len(layout)-1 || next.Hi >= share || i+1 < len(layout) && 2*share < 2*next.Hi+layout[i+1].Len {
			all = append(all, next)
			next = Span{Lo: next.Hi, Hi: next.Hi}
		}
	}
	return all
}
