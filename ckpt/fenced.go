package ckpt

// fenced is a file system that changes nothing any more once its fence says so: see WriterConfig.
type fenced struct {
	fsys
	fence func() error
}

// behind puts fs behind a fence; nil is none.
func behind(fs fsys, fence func() error) fsys {
	if fence == nil {
		return fs
	}
	return fenced{fs, fence}
}

func (f fenced) MkdirAll(dir string) error {
	if err := f.fence(); err != nil {
		return err
	}
	return f.fsys.MkdirAll(dir)
}

func (f fenced) Create(name string, want FileInfo) (file, error) {
	if err := f.fence(); err != nil {
		return nil, err
	}
	at, err := f.fsys.Create(name, want)
	if err != nil {
		return nil, err
	}
	return fencedFile{at, f.fence}, nil
}

// fencedFile is a file of a fenced file system. To be synced is what makes it an object of a store.
type fencedFile struct {
	file
	fence func() error
}

func (f fencedFile) Sync() error {
	if err := f.fence(); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f fenced) Link(from, to string) error {
	if err := f.fence(); err != nil {
		return err
	}
	return f.fsys.Link(from, to)
}

func (f fenced) Rename(from, to string) error {
	if err := f.fence(); err != nil {
		return err
	}
	return f.fsys.Rename(from, to)
}

func (f fenced) RemoveAll(name string) error {
	if err := f.fence(); err != nil {
		return err
	}
	return f.fsys.RemoveAll(name)
}

// Check implements checker.
func (f fenced) Check(name string, want FileInfo) error {
	if c, ok := f.fsys.(checker); ok {
		return c.Check(name, want)
	}
	return errCannotCheck
}

// Sweep implements sweeper.
func (f fenced) Sweep(dir string) error {
	s, ok := f.fsys.(sweeper)
	if !ok {
		return nil
	}
	if err := f.fence(); err != nil {
		return err
	}
	return s.Sweep(dir)
}
