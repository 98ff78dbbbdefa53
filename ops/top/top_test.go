package top

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/covey-ml/covey/ops"
)

var rewrite = flag.Bool("rewrite", false, "write what is drawn to testdata, rather than compare it")

// stage makes news of a run as it might go.
type stage struct {
	State
	now   time.Duration
	speed []float64 // by rank: batches a second that it would do by itself
	names []string
	gen   uint64
	step  float64
	told  []ops.Status
	mute  map[int]bool
}

func newStage(speeds ...float64) *stage {
	s := &stage{speed: speeds, gen: 1, mute: map[int]bool{}}
	s.Run = "runs/digits-mlp-1"
	for r := range speeds {
		s.names = append(s.names, fmt.Sprintf("node-%c, process %d", 'a'+r%26, 4100+r))
		s.Take(News{At: s.now, Joined: &Joined{ID: fmt.Sprint(r), Name: s.names[r]}})
		s.told = append(s.told, ops.Status{Run: s.Run, State: ops.Training, Generation: 1, Rank: r, Workers: len(speeds), Steps: 4690})
	}
	s.form("the first: all 4 workers are there")
	return s
}

func (s *stage) form(why string, gone ...string) {
	f := &Formed{Number: s.gen, Why: why, Gone: gone}
	rank := 0
	for r := range s.speed {
		if s.mute[r] {
			continue
		}
		s.told[r].Rank, s.told[r].Generation = rank, s.gen
		rank++
		f.Seats = append(f.Seats, Joined{ID: fmt.Sprint(r), Name: s.names[r]})
	}
	for r := range s.told {
		s.told[r].Workers = rank
	}
	s.Take(News{At: s.now, Formed: f})
}

// train lets so many seconds pass: all go as fast as the slowest.
func (s *stage) train(seconds int) {
	for range seconds {
		s.now += time.Second
		least := 1e9
		for r, v := range s.speed {
			if !s.mute[r] {
				least = min(least, v)
			}
		}
		s.step += least
		for r := range s.speed {
			if s.mute[r] {
				continue
			}
			t := &s.told[r]
			t.At++
			t.Step, t.Epoch = int(s.step), int(s.step)/469+1
			t.Samples += 64 * least
			t.Compute += least / s.speed[r] * 0.95
			t.Wait += 1 - least/s.speed[r]*0.95
			t.Comm += 0.3
			t.Bytes += int64(407_000 * least)
			loss := 2.3 * 40 / (40 + s.step)
			t.Loss = &loss
			s.Take(News{At: s.now, Status: &Told{fmt.Sprint(r), *t}})
		}
	}
}

func (s *stage) lose(r int, why string, may bool) {
	s.mute[r] = true
	s.Take(News{At: s.now, Lost: &Lost{ID: fmt.Sprint(r), Why: why, May: may}})
}

// even are workers of one speed, but for one.
func even(n, slow int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = 30
	}
	all[slow] = 21
	return all
}

func text(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

func TestScreens(t *testing.T) {
	started := newStage(30, 30, 21, 30)
	training := newStage(30, 30, 21, 30)
	training.train(40)
	lost := newStage(30, 30, 21, 30)
	lost.train(40)
	lost.lose(1, "killed by signal 9", false)
	lost.train(2)
	lost.now += 9 * time.Second
	after := newStage(30, 30, 21, 30)
	after.train(40)
	after.lose(1, "killed by signal 9", false)
	after.now += 3 * time.Second
	after.gen = 2
	after.form("3 of 4 workers go on without node-b, process 4101", "node-b, process 4101: its connection is gone (killed by signal 9)")
	after.train(75)
	over := newStage(30, 30, 21, 30)
	over.train(223)
	for r := range over.told {
		over.told[r].State, over.told[r].Step = ops.Over, 4690
		over.Take(News{At: over.now, Status: &Told{fmt.Sprint(r), over.told[r]}})
	}
	over.Take(News{At: over.now, Over: "the run is done"})
	stuck := newStage(30, 30, 21, 30)
	stuck.train(10)
	for range 20 {
		stuck.now += time.Second
		for r := range stuck.told {
			stuck.told[r].At++
			if r == 2 {
				continue
			}
			stuck.Take(News{At: stuck.now, Status: &Told{fmt.Sprint(r), stuck.told[r]}})
		}
	}
	many := newStage(even(200, 133)...)
	many.train(30)
	many.lose(77, "no answer: connection refused", true)
	many.train(4)
	for name, c := range map[string]struct {
		s    *stage
		size Size
	}{
		"nothing":   {&stage{}, Size{100, 30}},
		"started":   {started, Size{120, 30}},
		"training":  {training, Size{120, 30}},
		"narrow":    {training, Size{60, 30}},
		"narrowest": {training, Size{1, 1}},
		"low":       {training, Size{120, 8}},
		"lost":      {lost, Size{120, 30}},
		"after":     {after, Size{120, 30}},
		"over":      {over, Size{120, 0}},
		"stuck":     {stuck, Size{120, 30}},
		"many":      {many, Size{120, 24}},
	} {
		got := text(Render(&c.s.State, c.s.now, c.size))
		path := filepath.Join("testdata", name+".txt")
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: drawn\n%s\nexpected\n%s(go test -rewrite, if it is better)", name, got, want)
		}
	}
}

// Whatever comes, what is drawn has the size that there is, and nothing in it moves the cursor.
func TestAnyNewsFits(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	texts := []string{"", "x", "\x1b[2J\n\n", strings.Repeat("größe ", 60), "\xff\xfe", "node-a, process 7"}
	word := func() string { return texts[r.IntN(len(texts))] }
	id := func() string { return fmt.Sprint(r.IntN(40)) }
	amount := func() float64 { return r.Float64() * []float64{0, 1, 1e6, 1e18}[r.IntN(4)] }
	for range 200 {
		s, now := &State{}, time.Duration(0)
		for range r.IntN(300) {
			now += time.Duration(r.Int64N(int64(3 * time.Second)))
			n := News{At: now}
			switch r.IntN(9) {
			case 0:
				n.Joined = &Joined{id(), word()}
			case 1:
				n.Formed = &Formed{Number: r.Uint64N(20), Why: word(), Gone: []string{word()}}
				for range r.IntN(5) {
					n.Formed.Seats = append(n.Formed.Seats, Joined{id(), word()})
				}
			case 2:
				n.Lost = &Lost{id(), word(), r.IntN(2) == 0, r.IntN(5) == 0}
			case 3:
				if r.IntN(50) == 0 {
					n.Over = word()
				}
			default:
				loss := (amount() - 1)
				n.Status = &Told{id(), ops.Status{Run: word(), State: []ops.State{ops.Waiting, ops.Training, ops.Over}[r.IntN(3)], Why: word(),
					Generation: r.Uint64N(9), Rank: r.IntN(4), Workers: 4, At: amount(), Step: r.IntN(1 << 40), Steps: r.IntN(1 << 50), Epoch: r.IntN(9),
					Loss: &loss, Samples: amount(), Compute: amount(), Comm: amount(), Wait: amount(), Bytes: int64(amount()),
					Notes: []ops.Note{{At: amount(), Text: word()}}}}
				if err := n.Status.Check(); err != nil && !strings.Contains(err.Error(), "text") && !strings.Contains(err.Error(), "note") {
					t.Fatal(err)
				}
			}
			s.Take(n)
		}
		z := Size{r.IntN(200), r.IntN(50)}
		lines := Render(s, now, z)
		if z.Height > 0 && len(lines) > max(z.Height, leastHeight) {
			t.Fatalf("seed %d: %d lines in %v", seed, len(lines), z)
		}
		for _, l := range lines {
			if n := utf8.RuneCountInString(l.Text); n > max(z.Width, leastWidth) || l.Text != ops.Clean(l.Text) {
				t.Fatalf("seed %d: a line of %d characters in %v: %q", seed, n, z, l.Text)
			}
		}
	}
}

func TestRatesAreThoseOfTheLastSeconds(t *testing.T) {
	s := &State{}
	tell := func(at float64, step int, samples float64) {
		s.Take(News{At: time.Duration(at * float64(time.Second)), Status: &Told{"a", ops.Status{State: ops.Training, Workers: 1, At: at, Step: step, Samples: samples, Compute: at / 2}}})
	}
	tell(100, 10, 1000)
	if p := s.workers["a"].pace(); !p.known || p.samples != 10 || p.compute != 0.5 || p.steps != 0 {
		t.Errorf("of one status, the mean since the start: %+v", p)
	}
	for i := range 20 { // 100 samples a second from then on
		tell(101+float64(i), 11+i, 1000+100*float64(i+1))
	}
	if p := s.workers["a"].pace(); p.samples != 100 || p.steps != 1 {
		t.Errorf("%+v", p)
	}
	tell(121, 5, 3000) // it went back to an older step
	if p := s.workers["a"].pace(); p.steps != 0 || p.samples <= 0 {
		t.Errorf("after it went back: %+v", p)
	}
}

func TestEventsThatAllTellAreShownOnce(t *testing.T) {
	s := &State{}
	for _, id := range []string{"a", "b", "c", "a"} {
		s.Take(News{At: time.Second, Status: &Told{id, ops.Status{State: ops.Training, Notes: []ops.Note{{At: 5, Text: "generation 2 of 3 workers"}}}}})
	}
	if len(s.events) != 1 {
		t.Errorf("%+v", s.events)
	}
}

func TestWhoComesAndGoes(t *testing.T) {
	s := &State{}
	tell := func(state ops.State) {
		s.Take(News{Status: &Told{"a", ops.Status{State: state}}})
	}
	check := func(stands string, events ...string) {
		t.Helper()
		what, _ := s.workers["a"].stands(0)
		var all []string
		for _, e := range s.events {
			all = append(all, e.text)
		}
		if what != stands || strings.Join(all, "; ") != strings.Join(events, "; ") {
			t.Errorf("%q, %q; expected %q, %q", what, all, stands, events)
		}
	}
	gone := News{Lost: &Lost{ID: "a", Why: "connection refused", May: true}}
	s.Take(News{Joined: &Joined{"a", "node-a"}})
	check("joined")
	s.Take(gone) // it has not begun
	check("no answer")
	tell(ops.Training)
	check("training")
	s.Take(gone)
	s.Take(gone)
	check("no answer", "node-a: connection refused")
	tell(ops.Training)
	check("training", "node-a: connection refused", "node-a is back")
	tell(ops.Over)
	s.Take(gone) // as a process is that has ended
	check("done", "node-a: connection refused", "node-a is back")
	s.Take(News{Lost: &Lost{ID: "a", Well: true}})
	check("done", "node-a: connection refused", "node-a is back")
}

// A worker may say of a generation how it is before it is heard that the generation was formed, and who has which seat.
func TestFormedAfterStatus(t *testing.T) {
	s := &State{}
	s.Take(News{At: time.Second, Status: &Told{"a", ops.Status{Generation: 3, Workers: 1, Rank: 0, Step: 7}}})
	for range 2 {
		s.Take(News{At: time.Second, Formed: &Formed{Number: 3, Seats: []Joined{{"a", "node-a"}}, Why: "node-b is gone"}})
	}
	got := text(Render(s, 41*time.Second, Size{100, 0}))
	if strings.Count(got, "generation 3 of 1 worker: node-b is gone") != 1 || !strings.Contains(got, "node-a") {
		t.Errorf("got:\n%s", got)
	}
}

func TestWhatWasBeforeHasNoAge(t *testing.T) {
	s := &State{}
	s.Take(News{At: time.Second, Before: true, Formed: &Formed{Number: 3, Seats: []Joined{{"a", "node-a"}}, Why: "node-b is gone"}})
	s.Take(News{At: time.Second, Before: true, Joined: &Joined{"a", "node-a"}}) // it had its seat already: that is no news
	s.Take(News{At: 100 * time.Second, Status: &Told{"a", ops.Status{State: ops.Training, Generation: 3, Workers: 1, At: 50, Notes: []ops.Note{{At: 20, Text: "disk full"}}}}})
	got := text(Render(s, 110*time.Second, Size{100, 0}))
	if !strings.HasSuffix(got, "\n      earlier  generation 3 of 1 worker: node-b is gone\n      40s ago  disk full\n") {
		t.Errorf("drawn\n%s", got)
	}
}

func TestTheLossCurveKeepsItsEnds(t *testing.T) {
	s := &State{}
	for i := range 10_000 {
		s.loss(i+1, float64(-i))
	}
	if n := len(s.losses); n > mostLosses || n < mostLosses/2 || s.losses[n-1].step != 10_000 {
		t.Errorf("%d points", n)
	}
	for i := 1; i < len(s.losses); i++ {
		if s.losses[i].step <= s.losses[i-1].step {
			t.Fatalf("step %d after step %d", s.losses[i].step, s.losses[i-1].step)
		}
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{short(59 * time.Second), "59s"}, {short(61 * time.Second), "1m01s"}, {short(2*time.Hour + 3*time.Minute), "2h03m"}, {short(-1), "0s"},
		{short(200 * time.Hour), "8d"}, {short(1 << 62), "years"},
		{amount(0), "0 B"}, {amount(999), "999 B"}, {amount(1000), "1.0 kB"}, {amount(123456), "123 kB"}, {amount(2.14e6), "2.1 MB"}, {amount(5e15), "5000.0 TB"},
		{thousands(1234567), "1,234,567"}, {thousands(-123), "-123"}, {thousands(0), "0"}, {count(1, "worker"), "1 worker"}, {count(2000, "worker"), "2,000 workers"},
		{rate(3.14159), "3.14"}, {rate(12345.6), "12,346"}, {percent(0.714), "71 %"}, {percent(-1), "0 %"},
		{bar(0.5, 0.25, 8), "████▒▒··"}, {bar(0.9, 0.9, 10), "█████████▒"}, {bar(7, 7, 4), "████"},
		{spark([]point{{1, 8}, {2, 4}, {3, 2}, {4, 1}}, 10), "█▅▃▁"}, {spark([]point{{1, 3}, {2, 3}}, 10), "▁▁"}, {spark([]point{{1, 4}, {2, 4}, {3, 0}, {4, 0}}, 2), "█▁"},
		{ellipsis("größer", 4), "grö…"}, {ellipsis("so", 2), "so"},
	} {
		if c.got != c.want {
			t.Errorf("%q, expected %q", c.got, c.want)
		}
	}
}
