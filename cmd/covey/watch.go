package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/covey-ml/covey/comm/faulty"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/train"
)

// event is what rank 0, and of faults every worker, tells the launcher: exactly one field is set.
type event struct {
	Job        *summary              `json:"job,omitempty"`
	Start      *train.StartInfo      `json:"start,omitempty"`
	Step       *train.StepInfo       `json:"step,omitempty"`
	Epoch      *train.EpochInfo      `json:"epoch,omitempty"`
	Checkpoint *train.CheckpointInfo `json:"checkpoint,omitempty"`
	Generation *train.GenerationInfo `json:"generation,omitempty"`
	Of         *train.StartInfo      `json:"of,omitempty"`         // with Step: of which run, for who has not heard its start
	SaveError  string                `json:"save_error,omitempty"` // with Checkpoint
	Fault      *faulty.Fired         `json:"fault,omitempty"`      // from the worker that it concerns, as Still and Ended
	Still      *standing             `json:"still,omitempty"`
	Ended      *lastStep             `json:"ended,omitempty"`
	Status     *ops.Status           `json:"status,omitempty"` // from every worker, once a second
	Word       string                `json:"word,omitempty"`   // to be shown as it is, from the worker that it concerns
}

// often is how often a step is told: five times a second is as fast as people read.
const often = 200 * time.Millisecond

// eventsTo hands a run's events to f, steps only now and then, with the times of those in between added up.
func eventsTo(f func(event)) train.Events {
	var last time.Duration
	var sum strategy.Times
	var start train.StartInfo
	return train.Events{
		Start: func(i train.StartInfo) {
			start = i
			f(event{Start: &i})
		},
		Generation: func(i train.GenerationInfo) {
			start = i.StartInfo
			f(event{Generation: &i})
		},
		Step: func(i train.StepInfo) {
			sum.Add(i.Times)
			if i.At-last < often && (i.Decided == nil || !i.Decided.New) {
				return
			}
			last = i.At
			i.Times = sum
			sum = strategy.Times{}
			f(event{Step: &i, Of: &start})
		},
		Epoch: func(i train.EpochInfo) { f(event{Epoch: &i}) },
		Checkpoint: func(i train.CheckpointInfo) {
			e := event{Checkpoint: &i}
			if i.Err != nil {
				e.SaveError = i.Err.Error()
				i.Err = nil
			}
			f(e)
		},
	}
}

// summary is a job in the words of the first lines that a user sees.
type summary struct {
	Data, Model, How, Run string
}

func summaryOf(j *job.Job, tr, test data.Dataset) *summary {
	d := fmt.Sprintf("%s: %s samples", data.Shape(tr).Name, thousands(tr.Len()))
	if test != nil {
		d += fmt.Sprintf(", %s to test", thousands(test.Len()))
	}
	workers := count(j.Workers, "worker") + also(j.Servers())
	if n := j.Workers - j.Microshards; n > 0 {
		workers += fmt.Sprintf(" (%s without a microshard)", thousands(n))
	}
	how := fmt.Sprintf("%s over %s, batch %s in %s", workers, j.Transport, thousands(j.Batch), count(j.Microshards, "microshard"))
	if j.Rescales() {
		how += fmt.Sprintf(", rescaled with the workers (%s)", j.Rescale)
	}
	m := fmt.Sprintf("%s, %s, rate %v", j.Model, j.Optimizer, j.LR)
	switch {
	case j.Strategy == job.Direct:
		how = fmt.Sprintf("%s over %s, in closed form", count(j.Workers, "worker"), j.Transport)
		m = string(j.Model)
	case j.IsLocal():
		m += ", " + string(j.Strategy)
	case j.Solves():
		how = fmt.Sprintf("%s over %s, all samples a step, in %s", workers, j.Transport, count(j.Microshards, "microshard"))
		m = fmt.Sprintf("%s, %s", j.Model, j.Strategy)
	}
	return &summary{Data: d, Model: m, How: how, Run: j.Run}
}

// watcher shows a run as it goes: on a terminal one line that is written anew, elsewhere a line a second at most.
type watcher struct {
	out      io.Writer
	quiet    bool
	terminal bool
	columns  func() int // of the terminal

	mu      sync.Mutex
	began   bool
	steps   train.StartInfo
	width   int // of the line on the terminal that is to be written over
	printed time.Time
}

func newWatcher(out io.Writer, quiet bool) *watcher {
	w := &watcher{out: out, quiet: quiet}
	if f, ok := out.(*os.File); ok {
		w.terminal = term.IsTerminal(int(f.Fd()))
		w.columns = func() int {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				return n
			}
			return 80
		}
	}
	return w
}

// events feeds the watcher from a run of this process.
func (w *watcher) events() train.Events { return eventsTo(w.take) }

func (w *watcher) job(s *summary) { w.take(event{Job: s}) }

// started tells whether training has begun.
func (w *watcher) started() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began
}

// say prints a line that matters even to who wants it quiet.
func (w *watcher) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line(format, args...)
}

// note prints a line for who likes to know.
func (w *watcher) note(format string, args ...any) {
	if !w.quiet {
		w.say(format, args...)
	}
}

func (w *watcher) take(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Start != nil {
		w.began, w.steps = true, *e.Start
		for _, note := range e.Start.Notes {
			w.line("%s", note)
		}
	}
	if e.Generation != nil {
		w.began, w.steps = true, e.Generation.StartInfo
		for _, note := range e.Generation.Notes {
			w.line("%s", note)
		}
	}
	if e.Of != nil { // whoever told the one before: the speed is that since the generation began
		w.began, w.steps = true, *e.Of
	}
	if e.SaveError != "" {
		w.line("checkpoint of step %d NOT saved, the one before it is whole: %s", e.Checkpoint.Step, e.SaveError)
	}
	if e.Epoch != nil && len(e.Epoch.Missing)+len(e.Epoch.Repeated) > 0 {
		w.line("sample ledger of %s", e.Epoch.Booked())
	}
	if w.quiet {
		return
	}
	switch {
	case e.Job != nil:
		folder := ""
		if e.Job.Run != "" {
			folder = "; run folder " + e.Job.Run
		}
		w.line("%s\n%s\n%s%s", e.Job.Data, e.Job.Model, e.Job.How, folder)
	case e.Start != nil:
		from := ""
		if e.Start.Step > 0 {
			from = fmt.Sprintf(", going on after step %s", thousands(e.Start.Step))
		}
		w.line("%s parameters, %s%s", thousands(e.Start.Parameters), count(e.Start.Steps, "step"), from)
		w.rescaled(*e.Start)
	case e.Generation != nil:
		w.line("generation %d goes on after step %s", e.Generation.Number, thousands(e.Generation.Step))
		w.rescaled(e.Generation.StartInfo)
	case e.Step != nil:
		if d := e.Step.Decided; d != nil && d.New {
			w.line("from step %s on %s: %s", thousands(e.Step.Step+1), d.What, d.Why)
		}
		w.progress(*e.Step)
	case e.Epoch != nil && (e.Epoch.Step == w.steps.Steps || w.due()):
		w.line("%s", epochLine(*e.Epoch, w.steps))
	}
}

// rescaled says what the workers' number does to batch and rate.
func (w *watcher) rescaled(s train.StartInfo) {
	if text := s.Rescaled(); text != "" {
		w.line("%s", text)
	}
}

func epochLine(e train.EpochInfo, s train.StartInfo) string {
	loss := fmt.Sprintf("loss %.4f", e.Loss)
	if e.Quiet {
		loss = "no round ended"
	}
	line := fmt.Sprintf("epoch %d/%d  %s", e.Epoch, s.Epochs, loss)
	if e.Test.N > 0 {
		if e.Accuracy != nil {
			line += fmt.Sprintf("  test accuracy %.2f %%", 100**e.Accuracy)
		}
		if e.Test.AUC != nil {
			line += fmt.Sprintf("  AUC %.4f", *e.Test.AUC)
		}
		line += fmt.Sprintf("  test loss %.4f", e.Test.Loss/float64(e.Test.N))
	}
	return line + fmt.Sprintf("  %s", short(e.At))
}

// due tells whether a line may be printed: always on a terminal, else once a second.
func (w *watcher) due() bool {
	now := time.Now()
	if !w.terminal && now.Sub(w.printed) < time.Second {
		return false
	}
	w.printed = now
	return true
}

// progress shows one step.
func (w *watcher) progress(s train.StepInfo) {
	if !w.due() {
		return
	}
	all := s.Compute + s.Wait
	split := ""
	if all > 0 {
		split = fmt.Sprintf("  compute %.0f %%, waiting %.0f %%", 100*float64(s.Compute)/float64(all), 100*float64(s.Wait)/float64(all))
	}
	done := s.Step - w.steps.Step
	speed, left := 0.0, ""
	if took := s.At - w.steps.At; took > 0 && done > 0 {
		speed = float64(done) * float64(s.Samples) / took.Seconds()
		left = "  " + short(time.Duration(float64(took)/float64(done)*float64(w.steps.Steps-s.Step))) + " left"
	}
	loss := "loss" // of the global batch, or of a round
	switch {
	case s.Quiet:
		loss = "own loss"
	case s.Round > 0:
		loss = fmt.Sprintf("round %d  loss", s.Round)
	}
	text := fmt.Sprintf("epoch %d  step %d/%d  %s %.4f", s.Epoch, s.Step, w.steps.Steps, loss, s.Loss)
	if s.Solving != nil {
		text = fmt.Sprintf("step %d  loss %.6g  with penalty %.9g  gradient %.1e of its start", s.Step, s.Loss, s.Solving.Objective, s.Solving.Gradient)
		left = ""
	}
	more := []string{fmt.Sprintf("  %s samples/s", thousands(int(speed))), left, split}
	if !w.terminal {
		fmt.Fprintln(w.out, text+strings.Join(more, ""))
		return
	}
	room := w.columns() - 1 // a line that wraps cannot be written over
	for _, m := range more {
		if len(text)+len(m) <= room {
			text += m
		}
	}
	text = text[:min(len(text), max(0, room))]
	fmt.Fprintf(w.out, "\r%s%s", text, strings.Repeat(" ", max(0, w.width-len(text))))
	w.width = len(text)
}

// line prints whole lines, over the progress line if there is one.
func (w *watcher) line(format string, args ...any) {
	if w.width > 0 {
		fmt.Fprintf(w.out, "\r%s\r", strings.Repeat(" ", w.width))
		w.width = 0
	}
	fmt.Fprintf(w.out, format+"\n", args...)
}

// end clears the progress line.
func (w *watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.width > 0 {
		fmt.Fprintf(w.out, "\r%s\r", strings.Repeat(" ", w.width))
		w.width = 0
	}
}
