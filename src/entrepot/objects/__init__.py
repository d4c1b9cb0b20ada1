"""objects (essay follows)"""
