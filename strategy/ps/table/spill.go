package table

import (
	"fmt"
	"os"
)

// spill is the file of what is over the budget.
type spill struct {
	file *os.File
	name string // while it has to be removed, else ""
}

func newSpill(folder string) (*spill, error) {
	f, err := os.CreateTemp(folder, ".covey-table-")
	if err != nil {
		return nil, err
	}
	s := &spill{file: f, name: f.Name()}
	// Without a name the file is gone with the process, however that ends. Not every system allows it.
	if os.Remove(s.name) == nil {
		s.name = ""
	}
	return s, nil
}

func (s *spill) read(p []byte, at int64) error {
	if _, err := s.file.ReadAt(p, at); err != nil {
		return fmt.Errorf("reading what was spilled: %w", err)
	}
	return nil
}

func (s *spill) write(p []byte, at int64) error {
	if _, err := s.file.WriteAt(p, at); err != nil {
		return fmt.Errorf("spilling: %w", err)
	}
	return nil
}

func (s *spill) close() error {
	if s == nil {
		return nil
	}
	err := s.file.Close()
	if s.name != "" {
		os.Remove(s.name)
	}
	return err
}
