package plan

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes the cost as tables for people.
func (k *Cost) Print(out io.Writer) error {
	compressed := ""
	if k.Compress != "" {
		compressed = ", compressed by " + k.Compress
	}
	on := ""
	if k.Hosts > 1 {
		on = fmt.Sprintf(" on %s hosts", number(int64(k.Hosts)))
	}
	who := number(int64(k.Workers)) + " workers"
	if k.Servers > 0 {
		who += " and " + plural(k.Servers, "server")
	}
	fmt.Fprintf(out, "%s steps by %s%s: %s parameters (%s), %s%s over %s\n", number(int64(k.Steps)), k.Strategy, compressed,
		number(int64(k.Parameters)), size(4*int64(k.Parameters)), who, on, k.Scene)
	fmt.Fprintf(out, "alpha %s a round, beta %s a MiB\n", short(k.Alpha), short(k.Beta*(1<<20)))
	if k.Workers+k.Servers == 1 {
		_, err := fmt.Fprintf(out, "\none worker sends nothing\n")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\neach time, all workers\ttimes\tmessages\tpayload\theaders\trounds\tlatency\tbandwidth\tadding\tby\n")
	phase := Phase("")
	for _, l := range folded(k.Lines) {
		if l.Phase != phase {
			phase = l.Phase
			fmt.Fprintf(w, "%s\n", titles[phase])
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", l.What, number(int64(l.Times)), number(l.Messages), about(l.Exact, size(l.Payload)), size(l.Header),
			l.Rounds, short(l.Latency), short(l.Bandwidth), short(l.Adding), l.How)
	}
	w.Flush()
	fmt.Fprintf(out, "\n")
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "whole run\t%s messages, %s and %s of headers, %s of messages one after the other\n", number(k.Exchange.Messages),
		about(k.Exchange.Exact, size(k.Exchange.Payload)), size(k.Exchange.Header), short(k.Exchange.Seconds))
	switch {
	case k.Each != nil && k.Steps > 0:
		fmt.Fprintf(w, "a step\t%s\n", short(k.Exchange.Seconds/float64(k.Steps)))
		k.Each.Worker.print(w, "a worker", k.Steps, k.Exchange.Exact)
		k.Each.Server.print(w, "a server", k.Steps, k.Exchange.Exact)
	case k.Steps > 0:
		fmt.Fprintf(w, "a step\t%s a worker, %s\n", size(k.Exchange.Bytes()/int64(k.Steps)/int64(k.Workers)), short(k.Exchange.Seconds/float64(k.Steps)))
	}
	if k.Exchange.Payload > 0 {
		switch r := float64(k.Exactly) / float64(k.Exchange.Payload); {
		case r > 1.05:
			fmt.Fprintf(w, "\t%.3g times fewer bytes than exact sums in every step\n", r)
		case r < 0.95:
			what := ", for fewer rounds"
			if k.Servers > 0 {
				what = ""
			}
			fmt.Fprintf(w, "\t%.3g times the bytes that exact sums could do with%s\n", 1/r, what)
		}
	}
	if k.Other.Messages > 0 {
		fmt.Fprintf(w, "beside it\t%s messages, %s to meet, test and save\n", number(k.Other.Messages), about(k.Other.Exact, size(k.Other.Bytes())))
	}
	w.Flush()
	if k.Check != nil {
		k.Check.print(out)
	}
	return nil
}

// print writes what a rank of a kind says in a step, on average over so many.
func (s *Said) print(w io.Writer, who string, steps int, exact bool) {
	n := int64(steps)
	fmt.Fprintf(w, "%s, a step\t%s messages and %s sent, %s and %s received\n", who, mean(s.Sent.Messages, n), about(exact, size(s.Sent.Bytes()/n)),
		mean(s.Received.Messages, n), about(exact, size(s.Received.Bytes()/n)))
}

// mean is a number a step.
func mean(all, steps int64) string {
	if all%steps == 0 {
		return number(all / steps)
	}
	return strconv.FormatFloat(float64(all)/float64(steps), 'g', 3, 64)
}

// print writes what the ledger says.
func (c *Check) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s, run over %s and counted: %s\n", plural(c.Steps, "step"), c.Over, c.Words)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "all workers\t\tformula\t\tledger\t\t\n")
	fmt.Fprintf(w, "phase\toperation\tmessages\tbytes\tmessages\tbytes\t\n")
	for _, r := range c.Rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Phase, r.Op, number(r.Formula.Messages), number(r.Formula.Bytes()),
			number(r.Ledger.Messages), number(r.Ledger.Bytes()), r.Words)
	}
	w.Flush()
}

var titles = map[Phase]string{Start: "to meet", Exchanges: "to train", EpochEnds: "at the ends of epochs", Saves: "to save", End: "to report"}

// folded puts the lines of many buckets that cost the same into one.
func folded(lines []Line) []Line {
	var out []Line
	count := 1
	name := func() {
		if count > 1 {
			l := &out[len(out)-1]
			what, _, _ := strings.Cut(l.What, ",")
			l.What = fmt.Sprintf("%s, %d alike", what, count)
			l.Times *= count
		}
		count = 1
	}
	for _, l := range lines {
		if n := len(out); n > 0 && out[n-1].Phase == l.Phase && out[n-1].Sent == l.Sent && out[n-1].How == l.How && out[n-1].Times == l.Times && out[n-1].op == l.op {
			count++
			continue
		}
		name()
		out = append(out, l)
	}
	name()
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return number(int64(n)) + " " + what + "s"
}

// about marks a number that depends on the data.
func about(exact bool, text string) string {
	if exact {
		return text
	}
	return "about " + text
}

// number writes thousands apart.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size is bytes for people.
func size(n int64) string {
	for _, u := range []struct {
		from int64
		div  float64
		name string
	}{{10 << 40, 1 << 40, "TiB"}, {10 << 30, 1 << 30, "GiB"}, {10 << 20, 1 << 20, "MiB"}, {10 << 10, 1 << 10, "KiB"}} {
		if n >= u.from {
			return fmt.Sprintf("%.1f %s", float64(n)/u.div, u.name)
		}
	}
	return number(n) + " B"
}

// short is seconds for people, in three digits.
func short(s float64) string {
	unit := time.Nanosecond
	for _, u := range []time.Duration{time.Microsecond, time.Millisecond, time.Second} {
		if s >= u.Seconds() {
			unit = u
		}
	}
	if s == 0 {
		return "0"
	}
	text := strconv.FormatFloat(s/unit.Seconds(), 'g', 3, 64)
	if s >= 1000 {
		text = number(int64(s + 0.5))
	}
	return text + " " + map[time.Duration]string{time.Nanosecond: "ns", time.Microsecond: "us", time.Millisecond: "ms", time.Second: "s"}[unit]
}
