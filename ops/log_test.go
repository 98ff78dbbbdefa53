package ops_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ops"
)

func TestEveryLineSaysWhere(t *testing.T) {
	var b bytes.Buffer
	log, where, err := ops.Logger(&b, "json", "", "digits-1")
	if err != nil {
		t.Fatal(err)
	}
	child := log.With("part", "tcp").WithGroup("peer").With("name", "node-b")
	log.Info("starting")
	where.Set(2, 3, 120)
	child.Warn("slow", "seconds", 4)
	log.Debug("not shown")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), b.String())
	}
	type line struct {
		Msg, Run         string
		Generation       uint64
		Rank, Step       int
		Level, Time, Err string
		Part             string
		Peer             struct {
			Name    string
			Seconds int
			Rank    *int
		}
	}
	var first, second line
	for i, into := range []*line{&first, &second} {
		if err := json.Unmarshal([]byte(lines[i]), into); err != nil {
			t.Fatalf("%v: %s", err, lines[i])
		}
	}
	if first.Msg != "starting" || first.Run != "digits-1" || first.Generation != 0 || first.Step != 0 || first.Level != "INFO" || first.Time == "" {
		t.Errorf("%s", lines[0])
	}
	if second.Generation != 2 || second.Rank != 3 || second.Step != 120 || second.Run != "digits-1" || second.Part != "tcp" ||
		second.Peer.Name != "node-b" || second.Peer.Seconds != 4 || second.Peer.Rank != nil {
		t.Errorf("%s", lines[1])
	}
}

func TestTextLog(t *testing.T) {
	var b bytes.Buffer
	log, where, err := ops.Logger(&b, "text", "error", "a run")
	if err != nil {
		t.Fatal(err)
	}
	where.Set(1, 0, 7)
	log.Warn("not shown")
	log.Error("a peer is gone", "rank", 2)
	if got := b.String(); !strings.HasSuffix(got, `level=ERROR msg="a peer is gone" run="a run" generation=1 rank=0 step=7 rank=2`+"\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("%s", got)
	}
}

func TestLoggerNamesTheNearestChoice(t *testing.T) {
	for _, c := range []struct{ format, level, want string }{
		{"jsno", "", `did you mean "json"`},
		{"json", "warning", `did you mean "warn"`},
	} {
		if _, _, err := ops.Logger(&bytes.Buffer{}, c.format, c.level, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q: %v", c.format, c.level, err)
		}
	}
}

func TestWhereAllocatesNothing(t *testing.T) {
	w := &ops.Where{}
	if n := testing.AllocsPerRun(100, func() { w.Set(1, 2, 3) }); n != 0 {
		t.Errorf("%v objects", n)
	}
}
