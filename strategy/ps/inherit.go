package ps

import (
	"context"

	"github.com/covey-ml/covey/comm"
)

// When ranks are lost the rows of tables come to who is to keep them, as ranges do (survive.go). A rank that has them already goes on
// with the same tables; another gets them some MiB at a time.
//
// Where pushes are held and a step is done again for those that are behind, workers need the rows as they were before it. A server that
// has made the step has noted what it changed (shelf.was), and gives that.

// takeRows brings the rows that belong to a range to who is to keep them. ahead says that others have a step less than the copy.
func (s *Strategy) takeRows(ctx context.Context, c copyOf, of int, mine []*Strategy, ahead bool) error {
	me := int(s.w.Group.Rank())
	var have *shelf
	if me == c.rank {
		have = *mine[c.before].shelf(of)
	}
	for _, to := range s.keepers(of) {
		var err error
		switch {
		case me == c.rank && me == to:
			err = s.inherit(of, have)
		case me == c.rank:
			err = s.bequeath(ctx, have, comm.Rank(to), ahead)
		case me == to:
			err = s.receiveShelf(ctx, *s.shelf(of), comm.Rank(c.rank), ahead)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shelf is where this server has the rows that belong to a range.
func (s *Strategy) shelf(of int) **shelf {
	for _, d := range s.server.duplicates {
		if d.of == of {
			return &d.shelf
		}
	}
	return &s.server.shelf
}

// inherit goes on with the rows of an earlier strategy of this rank, which has them, too: should this group end before all have come
// to do steps as usual, they are as they were.
func (s *Strategy) inherit(of int, from *shelf) error {
	to := s.shelf(of)
	err := (*to).drop()
	from.users++
	from.count(s.w.Group.Clock().Now())
	*to = from
	return err
}

// bequeath sends another rank all rows and, if it is to have it, what the last change made of them before.
func (s *Strategy) bequeath(ctx context.Context, from *shelf, to comm.Rank, ahead bool) error {
	if err := from.send(ctx, s.w, to, tagRowsCopy(0)); err != nil || !ahead {
		return err
	}
	m, err := from.out.of(from.was)
	if err != nil {
		return err
	}
	return send(ctx, s.w.Group, to, tagRowsCopy(0), m)
}

// receiveShelf takes what bequeath sends.
func (s *Strategy) receiveShelf(ctx context.Context, to *shelf, from comm.Rank, ahead bool) error {
	err := s.kept.receive(ctx, s.w, from, tagRowsCopy(0), func(table int, rows sparse) error {
		return to.tables[table].Put(rows.rows, rows.x)
	})
	if err != nil || !ahead {
		return err
	}
	m, err := receiveRows(ctx, s.w.Group, from, tagRowsCopy(0), nil)
	if err != nil {
		return err
	}
	parts, err := decodeRowsMessage(nil, m, 1, to.of, to.widths)
	if err == nil {
		to.was = cloneAll(to.was, parts[0])
	}
	return err
}
