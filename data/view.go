package data

import "slices"

// Viewer is a Dataset whose samples already lie in memory as a Batch has them.
type Viewer interface {
	// View overwrites b with samples lo to hi-1 without copying them: b's slices are the data set's own memory, which
	// nobody may write to. Row may begin at any offset, and ID is left empty.
	View(b *Batch, lo, hi int)
}

// View overwrites b with samples lo to hi-1 of ds, which are only to be read: without copying them where ds can, and by
// Gather elsewhere. b must be used for nothing else.
func View(ds Dataset, b *Batch, lo, hi int) {
	if v, ok := ds.(Viewer); ok {
		v.View(b, lo, hi)
		return
	}
	ids := b.ID
	b.ID = nil
	ids = grow(ids, hi-lo)
	for i := range ids {
		ids[i] = lo + i
	}
	ds.Gather(b, ids)
}

var _ Viewer = (*sparse)(nil)

// View implements Viewer.
func (d *sparse) View(b *Batch, lo, hi int) {
	d.onesOnce.Do(func() { d.ones = !slices.ContainsFunc(d.val, func(v float32) bool { return v != 1 }) })
	*b = Batch{N: hi - lo, Dim: d.info.Dim, Row: d.row[lo : hi+1], Col: d.col, Val: d.val, Ones: d.ones}
	switch {
	case d.info.Task != Classification && d.y == nil, d.info.Task == Classification && d.class == nil:
		var own Batch // labels that are not known are made up
		d.labels(&own, make([]int, hi-lo))
		b.Class, b.Y = own.Class, own.Y
	case d.info.Task == Classification:
		b.Class = d.class[lo:hi]
	default:
		t := d.info.Targets
		b.Y = d.y[lo*t : hi*t]
	}
}
