package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
)

// ending is a run's report with what only the command knows.
type ending struct {
	train.Report
	Transport    string `json:"transport"`
	Strategy     string `json:"strategy"`
	Compress     string `json:"compress,omitempty"`
	Model        string `json:"model"`
	Data         string `json:"data"`
	Reproducible string `json:"reproducible"` // how far the same bits can be had again
	Kernels      string `json:"kernels"`
	Run          string `json:"run"`
	Stopped      bool   `json:"stopped,omitempty"` // before its end, as asked
	Timing       bool   `json:"timing,omitempty"`  // simulated for times alone: no number but those means anything

	Faults []fault.Outcome `json:"faults,omitempty"` // that were asked for
}

// noWeights is why a run has no hash of its weights.
const noWeights = "none: the tables are too large to be brought together"

func newEnding(j *job.Job, r *train.Report, stopped bool) *ending {
	return &ending{Report: *r, Transport: j.Transport, Strategy: string(j.Strategy), Compress: string(j.Compress), Model: string(j.Model), Data: j.Data,
		Reproducible: j.Reproducible(), Kernels: vec.Kernels(), Run: j.Run, Stopped: stopped}
}

func (e *ending) printJSON(w io.Writer) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// save leaves the report in the run folder.
func (e *ending) save(path string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o666)
}

// print writes the report for people.
func (e *ending) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	fmt.Fprintln(w)
	if e.Accuracy != nil {
		row("test accuracy", "%.2f %%", 100**e.Accuracy)
	}
	if e.AUC != nil {
		row("test AUC", "%.6g, log-loss %.6g", *e.AUC, *e.TestLoss)
	}
	if e.RMSE != nil {
		row("test error", "%.6g (root mean square)", *e.RMSE)
	}
	if !e.Timing {
		row("training loss", "%.6g (mean over the last epoch)", e.Loss)
	}
	if e.Objective != nil {
		row("objective", "%.10g (regulariser included, over the training set)", *e.Objective)
	}
	since := ""
	if e.First > 0 {
		since = fmt.Sprintf(" since step %s", thousands(e.First))
	}
	if e.Ended != "" {
		row("ended", "%s", e.Ended)
	}
	steps := count(e.Steps, "step")
	if e.Rounds > 0 {
		steps += " in " + count(e.Rounds, "round")
	}
	row("done", "%s, %s, %s samples%s", steps, epochs(e.Epochs), thousands(e.Samples), since)
	if e.Pace != nil && e.Pace.Step > 0 {
		row("rescaled", "%v", e.Pace)
	}
	row("time", "%s, %s samples/s", short(seconds(e.Wall)), thousands(int(e.SamplesPerSec)))
	rest := e.Wall - e.Compute - e.Wait
	row("", "computing %s, waiting %s, testing and saving %s",
		short(seconds(e.Compute)), short(seconds(e.Wait)), short(seconds(max(0, rest))))
	if hidden := e.Comm - e.Wait; hidden > e.Comm/100 {
		row("", "communicating %s, of which %s while computing", short(seconds(e.Comm)), short(seconds(hidden)))
	}
	if e.Codec > 0 {
		row("", "encoding and decoding %s of that", short(seconds(e.Codec)))
	}
	if e.Workers+e.Servers > 1 {
		closes := "as the algorithms' formulas say"
		if e.Unsent != 0 {
			closes += fmt.Sprintf(", less %s that lost workers kept back", bytes(e.Unsent))
		}
		if e.BytesSent != e.BytesExpected-e.Unsent {
			closes = fmt.Sprintf("NOT the %s that the formulas say", bytes(e.BytesExpected))
		}
		if rules, err := reduce.ParseRules(e.Compress); err == nil && e.Compress != "" && rules.Varies() != "" && e.BytesSent == e.BytesExpected {
			closes = "as each operation announced: the sizes depend on the data"
		}
		row("sent", "%s in %s messages, %s", bytes(e.BytesSent), thousands(int(e.Messages)), closes)
		if fewer := float64(e.BytesExact) / float64(e.BytesSent); fewer > 1.05 {
			row("", "%.3g times fewer bytes than exact sums in every step", fewer)
		}
		if e.Socket != nil {
			match := "as counted at the sockets"
			if e.Cut != 0 {
				match += fmt.Sprintf(", with %s of messages that a worker's loss cut off", bytes(max(e.Cut, -e.Cut)))
			}
			if *e.Socket != e.BytesSent+e.Control+e.Cut {
				match = fmt.Sprintf("NOT the %s counted at the sockets", bytes(*e.Socket))
			}
			row("", "and %s of control, %s", bytes(e.Control), match)
		}
	}
	for i, s := range e.Serving {
		row([]string{"servers", ""}[min(i, 1)], "%s", servedWords(s, e.Wall))
		for _, n := range s.Notes {
			row("", "%s", n)
		}
	}
	if e.Servers > 0 && e.Workers > 1 && len(e.Ranks) >= e.Workers {
		row("workers", "%s", waitedWords(e.Ranks[:e.Workers]))
	}
	if e.SamplesBooked != "" {
		row("samples", "%s", e.SamplesBooked)
	}
	if !e.Timing {
		row("same bits", "%s", e.Reproducible)
		row("weights hash", "%s", cmp.Or(e.Weights, noWeights)) // 80 columns hold it
	}
	for _, o := range e.Faults {
		row("fault", "%v: %v", o.Fault, o)
	}
	if e.Run != "" {
		row("run folder", "%s", e.Run)
		if !e.Stopped {
			row("", "use it with: covey predict %s --data FILE", e.Run)
		}
	}
	return w.Flush()
}

func epochs(e float64) string {
	if e == float64(int(e)) {
		return count(int(e), "epoch")
	}
	return fmt.Sprintf("%.2f epochs", e)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// short is a duration for people.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d us", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func bytes(n int64) string {
	switch {
	case n < 10<<10:
		return thousands(int(n)) + " bytes"
	case n < 10<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func itoa(n int) string { return strconv.Itoa(n) }

func printVersion(w io.Writer) {
	version := "(development)"
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		version = b.Main.Version
	}
	fmt.Fprintf(w, "covey %s, %s, %s/%s, kernels %s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, vec.Kernels())
}

// waitedWords says how long workers waited: the one that did least, and the one that did most.
func waitedWords(ranks []train.RankSum) string {
	least, most := ranks[0], ranks[0]
	for _, r := range ranks {
		if r.Wait < least.Wait {
			least = r
		}
		if r.Wait > most.Wait {
			most = r
		}
	}
	return fmt.Sprintf("waited from %s (rank %d) to %s (rank %d)", short(seconds(least.Wait)), least.Rank, short(seconds(most.Wait)), most.Rank)
}

// servedWords says what a server did in so many seconds.
func servedWords(s strategy.Served, wall float64) string {
	text := fmt.Sprintf("rank %d: %s pushes of %s parameters, busy %.0f %%", s.Rank, thousands(s.Pushes), thousands(s.Elements), 100*s.Busy/wall)
	if s.Dropped > 0 {
		text += fmt.Sprintf(", %s too late", thousands(s.Dropped))
	}
	if len(s.Staleness) > 0 {
		n, sum := 0, 0
		for late, c := range s.Staleness {
			n, sum = n+c, sum+c*late
		}
		text += fmt.Sprintf("; %.1f updates late on average, at most %d", float64(sum)/float64(n), len(s.Staleness)-1)
	}
	if s.Rows > 0 {
		text += fmt.Sprintf("; %s rows of tables, %s read, %s updates of rows a second, %s in memory", thousands(s.Rows), thousands(int(s.RowReads)), thousands(int(s.RowsPerSec)), bytes(s.Resident))
		if s.Spilled > 0 {
			text += fmt.Sprintf(", %s on disk", bytes(s.Spilled))
		}
	}
	return text
}
