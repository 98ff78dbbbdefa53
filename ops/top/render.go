package top

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/covey-ml/covey/ops"
)

// Line is a line to show, and how.
type Line struct {
	Text string
	Kind Kind
}

// Kind is what a line is.
type Kind int

// The kinds of lines.
const (
	Plain Kind = iota
	Title
	Faint
	Trouble
)

// Size is how much room there is, in characters. A height of 0 has no end.
type Size struct{ Width, Height int }

// The least that anything is drawn in.
const (
	leastWidth  = 30
	leastHeight = 4
)

// Render draws a run as it is known now, on the watcher's clock, in lines no wider and no more than there is room for.
func Render(s *State, now time.Duration, z Size) []Line {
	z.Width = max(z.Width, leastWidth)
	d := &drawing{s: s, now: now, width: z.Width}
	d.head()
	table, events := d.table(), d.events()
	if z.Height <= 0 {
		return d.fit(append(append(d.lines, table...), events...), 0)
	}
	z.Height = max(z.Height, leastHeight)
	room := z.Height - len(d.lines)
	if len(table)+len(events) > room { // the table goes first, but some of what has happened is always there
		few := min(len(events), max(4, room/3))
		if room < 10 {
			few = 0
		}
		if len(table)+few > room {
			table = d.shorten(table, max(3, room-few))
		}
		events = last(events, room-len(table))
	}
	return d.fit(append(append(d.lines, table...), events...), z.Height)
}

// drawing is a screen as it is drawn.
type drawing struct {
	s     *State
	now   time.Duration
	width int
	lines []Line
	by    []*worker // of the table's rows
}

func (d *drawing) add(k Kind, format string, args ...any) {
	d.lines = append(d.lines, Line{fmt.Sprintf(format, args...), k})
}

// head is the run as a whole: how far, how fast, how well.
func (d *drawing) head() {
	s := d.s
	var here, seats, step, steps, epoch int
	var samples, bytes, paced float64
	for _, w := range s.workers {
		if w.rank >= 0 {
			seats++
		}
		if !w.said {
			continue
		}
		step, steps, epoch = max(step, w.now.Step), max(steps, w.now.Steps), max(epoch, w.now.Epoch)
		if !w.here(d.now) {
			continue
		}
		here++
		p := w.pace()
		samples += p.samples
		bytes += p.bytes
		paced = max(paced, p.steps)
	}
	name := s.Run
	if name == "" {
		name = "covey"
	}
	title := []string{ops.Clean(name)}
	if s.Generation > 0 {
		title = append(title, fmt.Sprintf("generation %d", s.Generation))
	}
	switch {
	case seats == 0:
		title = append(title, count(len(s.workers), "worker"))
	case here == seats || s.Over != "":
		title = append(title, count(seats, "worker"))
	default:
		title = append(title, fmt.Sprintf("%d of %s at work", here, count(seats, "worker")))
	}
	if s.Over != "" {
		title = append(title, ops.Clean(s.Over))
	}
	d.lines = append(d.lines, Line{d.parts(title), Title})
	if len(s.workers) == 0 {
		d.add(Faint, "nothing has been heard yet")
		return
	}
	far := []string{}
	if steps > 0 {
		far = append(far, fmt.Sprintf("step %s of %s", thousands(step), thousands(steps)), fmt.Sprintf("epoch %d", epoch))
	}
	if here > 0 {
		far = append(far, thousands(int(math.Round(samples)))+" samples/s", amount(bytes)+"/s sent")
		if paced > 0 && steps > step {
			far = append(far, "about "+short(time.Duration(float64(steps-step)/paced*float64(time.Second)))+" left")
		}
	}
	if len(far) > 0 {
		d.add(Plain, "%s", d.parts(far))
	}
	if n := len(s.losses); n > 0 {
		room := min(60, d.width-len("loss 0.00000 → 0.00000  "))
		first, newest := s.losses[0], s.losses[n-1]
		if n == 1 || room < 8 {
			d.add(Plain, "loss %.4g", newest.loss)
		} else {
			d.add(Plain, "loss %.4g %s %.4g", first.loss, spark(s.losses, room), newest.loss)
		}
	}
	if w := d.slowest(); w != "" {
		d.add(Plain, "%s", w)
	}
}

// parts joins as many of them as there is room for.
func (d *drawing) parts(all []string) string {
	for n := len(all); n > 1; n-- {
		if line := strings.Join(all[:n], " · "); utf8.RuneCountInString(line) <= d.width {
			return line
		}
	}
	return all[0]
}

// slowest says whom the others wait for, when that is clear: one waits little while the others wait much.
func (d *drawing) slowest() string {
	var all []*worker
	for _, w := range d.s.workers {
		if w.here(d.now) && w.rank >= 0 && w.pace().known {
			all = append(all, w)
		}
	}
	if len(all) < 2 {
		return ""
	}
	slices.SortFunc(all, func(a, b *worker) int {
		if c := cmp.Compare(a.pace().wait, b.pace().wait); c != 0 {
			return c
		}
		return a.rank - b.rank
	})
	least, next := all[0].pace().wait, all[1].pace().wait
	if next < 0.1 || next-least < 0.1 || least > next/2 {
		return ""
	}
	return fmt.Sprintf("the others wait for rank %d (%s): it waits %s, they at least %s", all[0].rank, ops.Clean(all[0].name), percent(least), percent(next))
}

// column is a column of the table. Those with the highest drop go first when it gets narrow.
type column struct {
	head string
	left bool
	drop int
	cell func(w *worker, p pace) string
}

func (d *drawing) columns() []column {
	known := func(f func(pace) string) func(*worker, pace) string {
		return func(w *worker, p pace) string {
			if !p.known || !w.here(d.now) && !w.done() {
				return "-"
			}
			return f(p)
		}
	}
	return []column{
		{"rank", false, 0, func(w *worker, _ pace) string {
			if w.rank < 0 || w.gone {
				return "-"
			}
			return fmt.Sprint(w.rank)
		}},
		{"worker", true, 3, func(w *worker, _ pace) string { return ellipsis(ops.Clean(w.name), 28) }},
		{"state", true, 0, func(w *worker, _ pace) string { what, _ := w.stands(d.now); return what }},
		{"step", false, 1, func(w *worker, _ pace) string {
			if !w.said {
				return "-"
			}
			return thousands(w.now.Step)
		}},
		{"samples/s", false, 2, known(func(p pace) string { return rate(p.samples) })},
		{"compute", false, 5, known(func(p pace) string { return percent(p.compute) })},
		{"comm", false, 6, known(func(p pace) string { return percent(p.comm) })},
		{"wait", false, 1, known(func(p pace) string { return percent(p.wait) })},
		{"", true, 8, known(func(p pace) string { return bar(p.compute, p.wait, 12) })},
		{"sent/s", false, 4, known(func(p pace) string { return amount(p.bytes) })},
	}
}

// table has a line a worker, below an empty one and one that says what the columns are.
func (d *drawing) table() []Line {
	if len(d.s.workers) == 0 {
		return nil
	}
	d.by = d.s.ranked()
	cols := d.columns()
	cells := make([][]string, len(d.by))
	for i, w := range d.by {
		p := w.pace()
		for _, c := range cols {
			cells[i] = append(cells[i], c.cell(w, p))
		}
	}
	widths := make([]int, len(cols))
	for c := range cols {
		widths[c] = utf8.RuneCountInString(cols[c].head)
		for i := range cells {
			widths[c] = max(widths[c], utf8.RuneCountInString(cells[i][c]))
		}
	}
	shown := func() (all int) {
		for _, w := range widths {
			if w > 0 {
				all += w + 2
			}
		}
		return all
	}
	for shown() > d.width+2 {
		worst := -1
		for c := range cols {
			if widths[c] > 0 && cols[c].drop > 0 && (worst < 0 || cols[c].drop > cols[worst].drop) {
				worst = c
			}
		}
		if worst < 0 {
			break
		}
		widths[worst] = 0
	}
	row := func(text func(c int) string) string {
		var b strings.Builder
		for c := range cols {
			if widths[c] == 0 {
				continue
			}
			t := text(c)
			pad := strings.Repeat(" ", widths[c]-utf8.RuneCountInString(t))
			if cols[c].left {
				b.WriteString(t + pad + "  ")
			} else {
				b.WriteString(pad + t + "  ")
			}
		}
		return strings.TrimRight(b.String(), " ")
	}
	lines := []Line{{}, {row(func(c int) string { return cols[c].head }), Faint}}
	for i, w := range d.by {
		k := Plain
		if _, trouble := w.stands(d.now); trouble {
			k = Trouble
		}
		lines = append(lines, Line{row(func(c int) string { return cells[i][c] }), k})
	}
	return lines
}

// shorten leaves so many lines of the table: those of workers in trouble first, then of those that wait least, whom the others
// wait for, in the order in which they were. The last line says what is left out.
func (d *drawing) shorten(table []Line, room int) []Line {
	const above = 2
	keep := room - above - 1
	if keep < 1 || len(d.by) <= keep {
		return table[:min(len(table), room)]
	}
	order := make([]int, len(d.by))
	for i := range order {
		order[i] = i
	}
	weight := func(i int) float64 {
		w := d.by[i]
		_, trouble := w.stands(d.now)
		switch p := w.pace(); {
		case trouble && w.rank >= 0:
			return -2
		case trouble:
			return -1
		case !p.known:
			return 2
		default:
			return p.wait
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weight(a), weight(b)) })
	order = order[:keep]
	slices.Sort(order)
	lines := slices.Clone(table[:above])
	for _, i := range order {
		lines = append(lines, table[above+i])
	}
	return append(lines, Line{fmt.Sprintf("… and %s, none of them slower than these", count(len(d.by)-keep, "more worker")), Faint})
}

// events are what has happened, the newest last.
func (d *drawing) events() []Line {
	if len(d.s.events) == 0 {
		return nil
	}
	lines := []Line{{}}
	for _, e := range d.s.events {
		when := short(d.now-e.at) + " ago"
		if e.before {
			when = "earlier"
		}
		lines = append(lines, Line{fmt.Sprintf("%13s  %s", when, ops.Clean(e.text)), Plain})
	}
	return lines
}

// last keeps the first line, which is empty, and the newest ones.
func last(events []Line, room int) []Line {
	if room < 2 || len(events) == 0 {
		return nil
	}
	if len(events) <= room {
		return events
	}
	return append(slices.Clone(events[:1]), events[len(events)-room+1:]...)
}

// fit cuts lines to the width, and their number to the height.
func (d *drawing) fit(lines []Line, height int) []Line {
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	for i := range lines {
		lines[i].Text = ellipsis(lines[i].Text, d.width)
	}
	return lines
}
