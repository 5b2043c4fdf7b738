package apart

func lie(string) {}
