package ckpt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Workers that write a checkpoint together while they train have no ears for each other. So each leaves a note beside its
// files of what became of its part, and who began the checkpoint looks for the notes.

// markFile holds a draft's ID.
const markFile = "draft"

// othersGrace is how long who is done with its own part waits for others.
const othersGrace = 10 * time.Minute

// note is what became of a part.
type note struct {
	Written
	Err string `json:"error,omitempty"`
}

func noteFile(i int) string { return fmt.Sprintf("written-%05d.json", i+1) }

// leave leaves the note of a part. Of one that failed the files go first, so that on a full disk there is room for the words.
func (d Draft) leave(w Written, failed error) error {
	return d.on(func(p place, in Draft) error {
		n := note{Written: w}
		if failed != nil {
			n = note{Written: Written{Index: w.Index}, Err: failed.Error()}
			for name := range w.Files {
				_ = p.fs.RemoveAll(filepath.Join(in.Work, name))
			}
		}
		b, err := json.Marshal(n)
		if err != nil {
			return err
		}
		return create(p.fs, in.Work, contentOf(noteFile(w.Index), b))
	})
}

// note reads the note of part i.
func (d Draft) note(i int) (n note, err error) {
	err = d.on(func(p place, in Draft) error {
		b, err := readAll(p.fs, filepath.Join(in.Work, noteFile(i)), maxManifest)
		if err == nil {
			n, err = decodeNote(b)
		}
		if err == nil && n.Index != i {
			err = fmt.Errorf("%s: it is of part %d", noteFile(i), n.Index)
		}
		return err
	})
	return n, err
}

func decodeNote(b []byte) (n note, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return n, fmt.Errorf("a note of what was written: %w", err)
	}
	return n, nil
}

// Begin waits for the checkpoint under way and begins one that several workers write together. Who calls it tells the
// others of the draft; then all call SavePart, or nobody does and it is abandoned.
func (w *Writer) Begin(ctx context.Context, step int) (Draft, error) {
	path := StepDir(w.c.Run, step)
	if err := w.turn(ctx, path); err != nil {
		return Draft{}, err
	}
	return beginBehind(w.c.Fence, path)
}

// SavePart is Save for one worker's part of a draft. m, its manifest but for the files, is for the worker that began it, of
// part 0, alone: it waits for the others' parts, makes the checkpoint whole and takes away the older ones. What it saved is
// saved when Done tells so there; at the others Done tells of their own part.
func (w *Writer) SavePart(ctx context.Context, d Draft, p Part, m *Manifest) error {
	c := Checkpoint{Model: p.Model, State: p.State}
	if m != nil {
		c.Manifest = *m
	}
	return w.begin(ctx, d.Dir, c, func(c Checkpoint) Saved {
		p.Model, p.State = c.Model, c.State
		if m == nil {
			return d.part(p)
		}
		return w.whole(d, p, c.Manifest)
	})
}

// part writes a part and tells so.
func (d Draft) part(p Part) Saved {
	d.fence = d.current
	written, err := d.Write(p)
	written.Index = p.Index
	return Saved{Path: d.Dir, Sent: written.Sent, Kept: written.Kept, Err: errors.Join(err, d.leave(written, err))}
}

// whole writes a part, waits for the others and commits.
func (w *Writer) whole(d Draft, p Part, m Manifest) Saved {
	d.fence = w.c.Fence
	written, err := d.Write(p)
	s := Saved{Step: m.Step, Path: d.Dir, Sent: written.Sent, Kept: written.Kept}
	others, e := w.others(d, p.Of)
	if s.Err = errors.Join(err, e); s.Err == nil {
		s.Err = d.Commit(m, append(others, written)...)
	}
	if s.Err != nil {
		_ = d.Abandon() // who still writes may be in the way: what stays, the next one takes
	}
	return w.end(s)
}

// others waits for the notes of all parts but the first, and returns an error when one failed, or does not come.
func (w *Writer) others(d Draft, of int) (all []Written, failed error) {
	waited, pause := time.Duration(0), 10*time.Millisecond
	last := w.c.Sleep == nil
	for i := 1; i < of; {
		n, err := d.note(i)
		switch {
		case err == nil && n.Err == "":
			all = append(all, n.Written)
			i++
		case err == nil:
			failed = errors.Join(failed, fmt.Errorf("worker %d: %s", i, n.Err))
			i++
		case last:
			return nil, errors.Join(failed, fmt.Errorf("no news of the part of worker %d: %w", i, err))
		default:
			last = w.c.Sleep(w.alone, pause) != nil || waited >= othersGrace
			waited += pause
			pause = min(pause+pause/4, time.Second)
		}
	}
	return all, failed
}

// Alone says that nobody else is going to write: a checkpoint of several workers that is under way is given up unless all
// its parts are there.
func (w *Writer) Alone() { w.leave() }
