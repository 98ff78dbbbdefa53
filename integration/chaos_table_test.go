//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// countOf and seedFrom read a number from the environment, and have another one where there is none.
func countOf(t *testing.T, name string, other int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return other
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, expected how many runs there are to be", name, text)
	}
	return n
}

func seedFrom(t *testing.T, name string) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 1 // the same runs each time: what breaks is what was changed
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s is %q, expected a number", name, text)
	}
	return seed
}

// seat is a worker's place in a generation, as it says in its log.
type seat struct {
	Msg        string
	Generation uint64
	Rank       int
	Workers    int
	Why        string
}

// seatsOf reads a log.
func seatsOf(said string) (all []seat) {
	for line := range strings.Lines(said) {
		var s seat
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &s) == nil && s.Msg == "a generation begins" {
			all = append(all, s)
		}
	}
	return all
}

// chaosOutcome is what happened to a run, and what it came to.
type chaosOutcome struct {
	world, job string
	events     []chaosEvent
	recovered  []time.Duration // from the kill of a worker to the next step but one, as it is seen on disk
	failed     bool
	took       time.Duration
}

// middle and longest are those of some times, for people.
func middle(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	return all[len(all)/2].Round(10 * time.Millisecond).String()
}

func longest(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	return slices.Max(all).Round(10 * time.Millisecond).String()
}

// chaosTable is what runs came to, as Markdown.
func chaosTable(all []*chaosOutcome, command string, took time.Duration) string {
	type row struct {
		runs, failed, events int
		recovered, took      []time.Duration
	}
	rows := map[string]*row{}
	kinds, jobs := map[string]int{}, map[string]int{}
	for _, o := range all {
		jobs[o.job]++
		for _, name := range []string{o.world, "all"} {
			r := rows[name]
			if r == nil {
				r = &row{}
				rows[name] = r
			}
			r.runs++
			r.events += len(o.events)
			r.recovered, r.took = append(r.recovered, o.recovered...), append(r.took, o.took)
			if o.failed {
				r.failed++
			}
		}
		for _, e := range o.events {
			kinds[e.what]++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n`%s`, %s, in %v\n\n", command, setting(), took.Round(time.Second))
	fmt.Fprintf(&b, "| where | runs | failed | events | workers killed | from a kill to the next step but one: median | longest | a run: median |\n|---|---|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		r := rows[name]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %s | %s | %s |\n", name, r.runs, r.failed, r.events, len(r.recovered), middle(r.recovered), longest(r.recovered), middle(r.took))
	}
	for _, of := range []struct {
		what   string
		counts map[string]int
	}{{"event", kinds}, {"method", jobs}} {
		fmt.Fprintf(&b, "\n| %s | times |\n|---|---|\n", of.what)
		for _, name := range slices.Sorted(maps.Keys(of.counts)) {
			fmt.Fprintf(&b, "| %s | %d |\n", name, of.counts[name])
		}
	}
	return b.String() + "\n"
}

// setting is on what and when a table was made.
func setting() string {
	commit := "an unknown commit"
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, %s, %s/%s, %d processors, Linux %s, %s", commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(),
		strings.TrimSpace(string(kernel)), time.Now().Format(time.DateOnly))
}
