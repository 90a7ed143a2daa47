"""The suite file and the grid of cells that it expands into. Knows neither torch nor pandas."""
