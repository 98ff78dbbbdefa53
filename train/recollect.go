package train

import (
	"fmt"
	"slices"
)

// standing is what a worker says of itself when a group begins: the states that it could go on from, the newest first.
type standing []stand

// stand is a shot, in short.
type stand struct {
	Gen     uint64
	Step    int
	Fresh   bool // no step was done in that generation
	Rank    int  // in it
	Size    int  // of it
	Since   int  // its first step
	Unended bool
	Saved   bool
}

// recollection is what a group goes on from.
type recollection struct {
	Gen     uint64
	Step    int    // -1: nobody knows anything
	Size    int    // of that generation
	Since   int    // its first step
	Was     []int  // by rank: its rank in that generation, -1: it was not there, or does not know
	Whole   []bool // by rank: it has the state of Step
	From    int    // the rank that gives the others what all have alike
	Unended bool
	Saved   bool
}

// recollect decides what a group goes on from: the newest generation in which a step was done, or if there was none the newest
// one; and of that, where steps are undone, the newest state that anybody has, else the newest that all have.
func recollect(all []standing, undo bool) (recollection, error) {
	c := recollection{Step: -1, Was: make([]int, len(all)), Whole: make([]bool, len(all)), From: -1}
	fresh := true
	for _, s := range all {
		for _, k := range s {
			if fresh && !k.Fresh || fresh == k.Fresh && k.Gen > c.Gen {
				c.Gen, c.Size, c.Since, fresh = k.Gen, k.Size, k.Since, k.Fresh
			}
		}
	}
	for r, s := range all {
		all[r] = slices.DeleteFunc(slices.Clone(s), func(k stand) bool { return k.Gen != c.Gen })
		if len(all[r]) == 0 {
			continue
		}
		if newest := all[r][0].Step; c.Step < 0 || undo && newest > c.Step || !undo && newest < c.Step {
			c.Step = newest
		}
	}
	for r, s := range all {
		c.Was[r] = -1
		if len(s) == 0 {
			continue
		}
		c.Was[r] = s[0].Rank
		i := slices.IndexFunc(s, func(k stand) bool { return k.Step == c.Step })
		switch {
		case i < 0 && undo: // it was in the midst of the last step
			c.Unended = true
			continue
		case i < 0:
			return c, fmt.Errorf("train: worker %d does not know step %d any more, to which others go back", r, c.Step)
		}
		c.Whole[r] = true
		c.Unended = c.Unended || s[i].Unended
		if c.From < 0 {
			c.From = r
		}
		if r == 0 {
			c.Saved = s[i].Saved
		}
	}
	return c, nil
}
