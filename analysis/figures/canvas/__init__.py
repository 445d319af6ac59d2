"""What several figures draw with: pictures and maps, boxes, axes, charts on screen."""
