package table

import (
	"fmt"

	"github.com/covey-ml/covey/vec"
)

// pages are where a stripe's rows lie, perPage to a page. A page is in a frame of memory, or in the file. When the budget
// is used up, a page that comes takes the frame of one that has not been used for a while: frames are looked at in turn,
// and one that was used since the last turn stays ("clock", Corbato 1968). A page that did not change since it was read is
// not written again.
type pages struct {
	where   []int32     // each page's frame, or onDisk
	frames  []frame     // what is in each frame
	memory  [][]float32 // of perChunk frames each
	hand    int         // the frame that was looked at last
	spilled int         // pages that are on disk alone
	reads   uint64
	writes  uint64
}

type frame struct {
	page  int32 // or empty
	used  bool  // since the hand was here
	dirty bool  // the file does not have it as it is
}

const (
	onDisk = -1
	empty  = -1
	// chunk is how many bytes memory is asked for at a time. What is not touched of it costs nothing.
	chunk = 1 << 20
)

// resident is how many bytes of memory the stripe takes: index and names, pages, and their books.
func (s *stripe) resident() int64 {
	names := (8*s.n + diskPage - 1) &^ (diskPage - 1)
	return int64(4*len(s.index)+names) + int64(4*len(s.where)) + int64(len(s.frames))*s.t.frameBytes()
}

// frameBytes is a page's memory and its frame's.
func (t *Table) frameBytes() int64 { return int64(4*t.pageLen + 8) }

// least is the smallest share of the budget: the first rows' index and names, and two pages.
func (t *Table) least() int64 { return 2*diskPage + 2*t.frameBytes() + 8 }

// row is the memory of a row with its state, until the next call; write says that the caller will change it.
func (s *stripe) row(slot int, write bool) ([]float32, error) {
	page, at := s.lies(slot)
	if s.where[page] == onDisk {
		if err := s.fetch(page); err != nil {
			return nil, err
		}
	}
	f := int(s.where[page])
	s.frames[f].used = true
	if write {
		s.frames[f].dirty = true
	}
	return s.content(f)[at : at+s.t.stride : at+s.t.stride], nil
}

// lies is the page that a slot is in, and where there.
func (s *stripe) lies(slot int) (page, at int) {
	page = int(uint32(slot) / uint32(s.t.perPage)) // which divides in half the time of 64 bits
	return page, (slot - page*s.t.perPage) * s.t.stride
}

// content is a frame's memory.
func (s *stripe) content(f int) []float32 {
	at := f & (s.t.perChunk - 1) * s.t.pageLen
	return s.memory[f>>s.t.chunkBits][at : at+s.t.pageLen]
}

// newPage adds a page, in memory.
func (s *stripe) newPage() error {
	f, err := s.vacant()
	if err != nil {
		return err
	}
	s.frames[f] = frame{page: int32(len(s.where)), dirty: true}
	s.where = append(s.where, int32(f))
	return nil
}

// fetch reads a page from the file.
func (s *stripe) fetch(page int) error {
	f, err := s.vacant()
	if err != nil {
		return err
	}
	if err := s.t.spill.read(vec.Bytes(s.content(f)), s.place(page)); err != nil {
		return err
	}
	s.frames[f] = frame{page: int32(page)}
	s.where[page] = int32(f)
	s.spilled--
	s.reads++
	return nil
}

// place is where a page is in the file: stripes grow alike, so theirs alternate and leave few holes.
func (s *stripe) place(page int) int64 {
	return (int64(page)*int64(s.t.stripes) + int64(s.number)) * int64(4*s.t.pageLen)
}

// vacant returns an empty frame: a new one while the budget allows it, or one whose page goes to the file.
func (s *stripe) vacant() (int, error) {
	if s.t.share == 0 || s.resident()+s.t.frameBytes() <= s.t.share {
		if len(s.frames) == len(s.memory)*s.t.perChunk {
			m, err := alloc[float32](s.t.perChunk * s.t.pageLen)
			if err != nil {
				return 0, err
			}
			s.memory = append(s.memory, m)
		}
		s.frames = append(s.frames, frame{page: empty})
		return len(s.frames) - 1, nil
	}
	if err := s.mayEvict(0); err != nil {
		return 0, err
	}
	for {
		s.hand = (s.hand + 1) % len(s.frames)
		f := &s.frames[s.hand]
		if f.page != empty && f.used {
			f.used = false
			continue
		}
		return s.hand, s.evict(s.hand)
	}
}

// fit gives frames up until the stripe is within the budget again: index and names have grown.
func (s *stripe) fit() error {
	for s.t.share > 0 && s.resident() > s.t.share {
		if err := s.mayEvict(1); err != nil {
			return err
		}
		last := len(s.frames) - 1
		if err := s.evict(last); err != nil {
			return err
		}
		s.frames = s.frames[:last]
		if last%s.t.perChunk == 0 {
			free(s.memory[last/s.t.perChunk])
			s.memory = s.memory[:last/s.t.perChunk]
		}
	}
	return nil
}

// mayEvict says why no page can go to the file, when more than a number of frames are needed for that.
func (s *stripe) mayEvict(frames int) error {
	budget, rows := s.t.c.Budget, s.n*s.t.stripes
	switch {
	case s.t.spill == nil:
		return fmt.Errorf("the budget of %v is used up at about %d rows, and there is no folder to spill to: name one, raise the budget, or take more servers", budget, rows)
	case len(s.frames) <= frames:
		return fmt.Errorf("the budget of %v is used up by the names of about %d rows alone: raise it, or take more servers", budget, rows)
	}
	return nil
}

// evict empties a frame.
func (s *stripe) evict(f int) error {
	page := s.frames[f].page
	if page == empty {
		return nil
	}
	if s.frames[f].dirty {
		if err := s.t.spill.write(vec.Bytes(s.content(f)), s.place(int(page))); err != nil {
			return err
		}
		s.writes++
	}
	s.where[page] = onDisk
	s.frames[f] = frame{page: empty}
	s.spilled++
	return nil
}
