"""rules (essay follows)"""
